//! When a scheduled snapshot is due, and which have expired.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::config::Schedule;
use crate::store::Snapshot;

/// By how much a clock is set without having been wrong.
const SLIGHTLY: SignedDuration = SignedDuration::from_mins(10);

/// Whether a snapshot is due at `now`: none was made yet in this hour, day, week or month.
///
/// The admin's clock decides where a day begins. One of the future, when a clock was wrong once, does not
/// count: it would end the schedule until then.
pub(super) fn is_due(schedule: Schedule, snapshots: &[Snapshot], now: Timestamp, zone: &TimeZone) -> bool {
    // A clock that is set back a little does not make a second one.
    let past = snapshots.iter().filter(|s| s.record.scheduled && s.record.created <= now + SLIGHTLY);
    let last = past.map(|s| s.record.created).max();
    last.is_none_or(|last| period(schedule, last, zone) != period(schedule, now, zone))
}

/// What all moments of one hour, day, week or month have in common.
fn period(schedule: Schedule, time: Timestamp, zone: &TimeZone) -> (i16, i16, i8) {
    let time = time.to_zoned(zone.clone());
    match schedule {
        Schedule::Hourly => (time.year(), time.day_of_year(), time.hour()),
        Schedule::Daily => (time.year(), time.day_of_year(), 0),
        Schedule::Weekly => {
            let week = time.date().iso_week_date();
            (week.year(), 0, week.week())
        }
        Schedule::Monthly => (time.year(), 0, time.month()),
    }
}

/// The scheduled snapshots beyond the newest `keep`; those that an admin made stay. One of the future was made
/// before all that were made since the clock is right.
pub(super) fn expired(snapshots: &[Snapshot], keep: u32, now: Timestamp) -> Vec<&Snapshot> {
    let mut scheduled: Vec<&Snapshot> = snapshots.iter().filter(|s| s.record.scheduled).collect();
    scheduled.sort_by_key(|s| (s.record.created <= now, s.record.created));
    scheduled.truncate(scheduled.len().saturating_sub(keep as usize));
    scheduled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SnapshotRecord;

    fn snapshot(name: &str, created: &str, scheduled: bool) -> Snapshot {
        Snapshot {
            name: name.parse().unwrap(),
            place: name.into(),
            record: SnapshotRecord {
                created: created.parse().unwrap(),
                comment: String::new(),
                scheduled,
                running: false,
            },
        }
    }

    #[test]
    fn one_is_due_once_in_each_period() {
        let last = "2026-11-24T10:30:00Z";
        for (schedule, now, due) in [
            (Schedule::Hourly, "2026-11-24T10:59:00Z", false),
            (Schedule::Hourly, "2026-11-24T11:00:00Z", true),
            (Schedule::Daily, "2026-11-24T23:59:59Z", false),
            (Schedule::Daily, "2026-11-25T00:00:00Z", true),
            (Schedule::Weekly, "2026-11-29T23:00:00Z", false),
            (Schedule::Weekly, "2026-11-30T00:00:00Z", true),
            (Schedule::Monthly, "2026-11-30T23:00:00Z", false),
            (Schedule::Monthly, "2026-12-01T00:00:00Z", true),
            (Schedule::Monthly, "2027-11-24T10:30:00Z", true),
            // A clock that was wrong once does not end the schedule.
            (Schedule::Hourly, "2026-11-24T09:00:00Z", true),
            (Schedule::Weekly, "2026-11-01T12:00:00Z", false),
        ] {
            let snapshots = [snapshot("a", last, true), snapshot("b", "2026-11-01T00:00:00Z", true)];
            assert_eq!(is_due(schedule, &snapshots, now.parse().unwrap(), &TimeZone::UTC), due, "{schedule:?} {now}");
        }
    }

    #[test]
    fn an_admins_own_snapshots_do_not_count_nor_expire() {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        let own = snapshot("own", "2026-11-24T11:00:00Z", false);
        assert!(is_due(Schedule::Daily, std::slice::from_ref(&own), now, &TimeZone::UTC));
        let made = |n: u8| snapshot(&format!("s{n}"), &format!("2026-11-0{n}T00:00:00Z"), true);
        let snapshots = [made(3), made(1), own, made(2)];
        let names = |keep| expired(&snapshots, keep, now).iter().map(|s| s.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(2), ["s1"]);
        assert_eq!(names(0), ["s1", "s2", "s3"]);
        assert_eq!(names(3), Vec::<String>::new());
        let now = "2026-11-02T12:00:00Z".parse().unwrap();
        let names = |keep| expired(&snapshots, keep, now).iter().map(|s| s.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(2), ["s3"], "of the future");
    }
}
