//! The table that a run prints: medians of both sides, their ratio, and what is wanted.

use crate::measured::Measured;
use crate::side::Side;

/// Measures both sides in turn, `rounds` times, and prints a row.
pub fn compare(
    what: &str,
    unit: Unit,
    wanted: &str,
    sides: &[Side; 2],
    rounds: usize,
    one: impl Fn(&Side) -> Measured,
) {
    let mut samples: [Measured<Vec<f64>>; 2] = [Ok(Vec::new()), Ok(Vec::new())];
    for _ in 0..rounds {
        for (side, samples) in sides.iter().zip(&mut samples) {
            // Once a side has failed, trying again only costs time.
            if let Ok(taken) = samples {
                match one(side) {
                    Ok(value) => taken.push(value),
                    Err(e) => *samples = Err(e),
                }
            }
        }
    }
    row(what, unit, wanted, samples.map(|samples| samples.map(|mut samples| median(&mut samples))));
}

#[derive(Clone, Copy)]
pub enum Unit {
    Milliseconds,
    Kibibytes,
    /// A second.
    Gigabits,
    /// Of packets, a second.
    Thousands,
}

pub fn row(what: &str, unit: Unit, wanted: &str, measured: [Measured; 2]) {
    row_against(what, unit, wanted, ["lxm", "LXC"], measured);
}

/// A row whose second column is not LXC's.
pub fn row_against(what: &str, unit: Unit, wanted: &str, names: [&str; 2], [ours, theirs]: [Measured; 2]) {
    let show = |value: &Measured| match (value, unit) {
        (Err(_), _) => "-".to_owned(),
        (Ok(ms), Unit::Milliseconds) if *ms >= 1e3 => format!("{:.2} s", ms / 1e3),
        (Ok(ms), Unit::Milliseconds) => format!("{ms:.1} ms"),
        (Ok(kib), Unit::Kibibytes) => format!("{:.2} MB", kib / 1024.0),
        (Ok(gigabits), Unit::Gigabits) => format!("{gigabits:.1} Gb/s"),
        (Ok(thousands), Unit::Thousands) => format!("{thousands:.0} k/s"),
    };
    let ratio = match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => format!("{:.2}", ours / theirs),
        _ => "-".to_owned(),
    };
    println!("{what:<46}{:>12}{:>12}{ratio:>8}   {wanted}", show(&ours), show(&theirs));
    for (name, result) in names.into_iter().zip([&ours, &theirs]) {
        if let Err(e) = result {
            println!("    {name}: {e}");
        }
    }
}

pub fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    match samples.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => samples[n / 2],
        n => (samples[n / 2 - 1] + samples[n / 2]) / 2.0,
    }
}
