//! `kill -9` at every point: afterwards start, destroy and gc work, and nothing of ours is left.

use std::process::{Child, Stdio};
use std::time::Duration;

use lxm::testing::supervisor::Stage;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Guest, Sandbox, Trial, command, eventually};

pub fn trials() -> Vec<Trial> {
    let probe = |name, body| Trial::new(name, body).guest(Guest::Probe);
    vec![
        Trial::new("crash::a_child_of_the_supervisor_that_hangs_is_ended", endless_child),
        Trial::new("crash::a_process_that_holds_a_namespace_ends_with_its_maker", holder),
        probe("crash::a_death_at_any_stage_leaves_a_startable_container", every_stage).limit(240),
        probe("crash::the_guest_dies_with_its_supervisor", the_guest_dies_with_its_supervisor),
        probe("crash::after_a_dead_supervisor_destroy_works_at_once", destroy_after_a_dead_supervisor),
        probe("crash::after_a_dead_supervisor_gc_leaves_nothing", gc_after_a_dead_supervisor),
        probe("crash::a_killed_start_command_leaves_a_startable_container", killed_start).limit(180),
        probe("crash::a_killed_stop_command_leaves_a_container_that_stops", killed_stop).limit(180),
        probe("crash::a_killed_create_leaves_nothing_after_gc", killed_create).limit(180),
        probe("crash::a_killed_destroy_is_finished_by_the_next", killed_destroy).limit(180),
    ]
}

fn every_stage(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    for stage in Stage::ALL {
        dies_at(sandbox, stage);
        stopped(sandbox);
        sandbox.lxm(&["start", "p", "--wait", "booted"]).ok();
        sandbox.lxm(&["stop", "-k", "p"]).ok();
        // And with nothing in between but a destroy.
        dies_at(sandbox, stage);
        sandbox.lxm(&["destroy", "-f", "p"]).ok();
        sandbox.check_leaks();
        sandbox.create("p", Guest::Probe, &[]);
    }
}

/// Starts `p` with a supervisor that kills itself at this stage.
fn dies_at(sandbox: &Sandbox, stage: Stage) {
    let mut start = sandbox.command();
    start.args(["start", "p"]).env("LXM_DIE_AT", stage.name());
    let told = command::bounded(start, b"", Duration::from_secs(20));
    if stage == Stage::Ended {
        assert_eq!(told.status, 0, "{told}");
        // The guest is gone by then, whatever the command is told.
        drop(sandbox.lxm(&["stop", "-k", "p"]));
    } else {
        assert_ne!(told.status, 0, "it was to die at `{}`: {told}", stage.name());
        assert!(told.stderr.starts_with("error: "), "at `{}`: {told}", stage.name());
    }
}

fn stopped(sandbox: &Sandbox) {
    eventually("it is seen as stopped", Duration::from_secs(5), || {
        sandbox.info("p", "state").as_str().unwrap().eq_ignore_ascii_case("stopped")
    });
}

fn kill_supervisor(sandbox: &Sandbox) -> i32 {
    let leader = sandbox.leader("p");
    kill(Pid::from_raw(sandbox.supervisor("p")), Signal::SIGKILL).unwrap();
    leader
}

fn the_guest_dies_with_its_supervisor(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    let mut follower = sandbox.command();
    let mut follower = follower.args(["attach", "p", "--", "/bin/probe", "sleep", "100"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let leader = kill_supervisor(sandbox);
    let gone = || !std::path::Path::new(&format!("/proc/{leader}")).exists();
    eventually("the guest is dead", Duration::from_secs(5), gone);
    stopped(sandbox);
    let ended = command::wait(&mut follower, Duration::from_secs(5));
    assert!(ended.is_some_and(|status| !status.success()), "attach has not noticed");
    sandbox.lxm(&["start", "p", "--wait", "booted"]).ok();
    sandbox.lxm(&["attach", "p", "--", "/bin/probe", "exit", "0"]).ok();
}

fn destroy_after_a_dead_supervisor(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    kill_supervisor(sandbox);
    sandbox.lxm(&["destroy", "-f", "p"]).ok();
    sandbox.check_leaks();
}

fn gc_after_a_dead_supervisor(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    let leader = kill_supervisor(sandbox);
    let gone = || !std::path::Path::new(&format!("/proc/{leader}")).exists();
    eventually("the guest is dead", Duration::from_secs(5), gone);
    sandbox.lxm(&["gc"]).ok();
    let layout = sandbox.layout();
    assert!(!layout.run_dir(&"p".parse().unwrap()).exists(), "gc has left the record of the boot");
    sandbox.lxm(&["destroy", "p"]).ok();
}

/// Runs `lxm` and kills it after each of a row of moments, a little later each time.
fn kill_after_moments(
    sandbox: &Sandbox,
    args: &[&str],
    moments: impl Iterator<Item = Duration>,
    mut then: impl FnMut(&Child),
) {
    for moment in moments {
        let mut child = sandbox.command().args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(moment);
        child.kill().unwrap();
        child.wait().unwrap();
        then(&child);
    }
}

fn milliseconds(step: u64, count: u64) -> impl Iterator<Item = Duration> {
    (0..count).map(move |n| Duration::from_micros(n * step))
}

fn killed_start(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    kill_after_moments(sandbox, &["start", "p"], milliseconds(1500, 12), |_| {
        // Whether it runs by now or not, both commands must make the best of it.
        let told = sandbox.lxm(&["start", "p", "--wait", "booted"]);
        assert!([0, 4].contains(&told.status), "{told}");
        sandbox.lxm(&["attach", "p", "--", "/bin/probe", "exit", "0"]).ok();
        sandbox.lxm(&["stop", "-k", "p"]).ok();
    });
}

fn killed_stop(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    sandbox.lxm(&["start", "p", "--wait", "booted"]).ok();
    kill_after_moments(sandbox, &["stop", "p"], milliseconds(1000, 10), |_| {
        let told = sandbox.lxm(&["stop", "p"]);
        assert!([0, 4].contains(&told.status), "{told}");
        stopped(sandbox);
        sandbox.lxm(&["start", "p", "--wait", "booted"]).ok();
    });
}

fn killed_create(sandbox: &Sandbox) {
    let args =
        [vec!["create".to_owned(), "p".into(), "--network".into(), "none".into()], Guest::Probe.create_arguments()];
    let args = args.concat();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    kill_after_moments(sandbox, &args, milliseconds(3000, 12), |_| {
        sandbox.lxm(&["gc"]).ok();
        let told = sandbox.lxm(&["destroy", "-f", "p"]);
        assert!([0, 3].contains(&told.status), "{told}");
        sandbox.check_leaks();
    });
    sandbox.boot("p", Guest::Probe, &[]);
}

fn killed_destroy(sandbox: &Sandbox) {
    kill_after_moments(sandbox, &["destroy", "-f", "p"], milliseconds(1000, 10).skip(1), |_| {
        let told = sandbox.lxm(&["destroy", "-f", "p"]);
        assert!([0, 3].contains(&told.status), "{told}");
        sandbox.lxm(&["gc"]).ok();
        sandbox.check_leaks();
        sandbox.create("p", Guest::Probe, &[]);
    });
}

/// A supervisor waits for such children: for no lock and no disk may it wait for ever.
fn endless_child(_: &Sandbox) {
    let begun = std::time::Instant::now();
    let endless = || -> lxm::testing::error::Result<u32> {
        std::thread::sleep(Duration::from_secs(600));
        Ok(1)
    };
    let error = lxm::testing::sys::fork::run_within(Duration::from_millis(200), endless).unwrap_err();
    assert_eq!(error.kind(), lxm::testing::error::Kind::TimedOut, "{error}");
    assert!(error.to_string().contains("not finished within 0.2 s"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(300), "it was waited for");
    assert!(nix::sys::wait::wait().is_err(), "it is reaped");
    assert_eq!(lxm::testing::sys::fork::run(|| Ok(7)).unwrap(), 7);
}

/// It has copies of its maker's descriptors: a lock that it keeps would be taken for a running container.
fn holder(sandbox: &Sandbox) {
    use lxm::testing::sys::clone::{SingleThreaded, clone, clone_holder};
    let place = sandbox.path("holder");
    // The sandbox's readers of output end after it is there.
    eventually("this process has one thread", Duration::from_secs(20), || SingleThreaded::check().is_ok());
    let maker = clone(SingleThreaded::check().unwrap(), 0, None, || {
        let holder = clone_holder(SingleThreaded::check().unwrap(), libc::CLONE_NEWUSER).unwrap();
        std::fs::write(&place, holder.pid().to_string()).unwrap();
        std::thread::sleep(Duration::from_secs(600));
        drop(holder);
        0
    });
    let maker = maker.unwrap();
    let pid = || std::fs::read_to_string(&place).ok()?.parse::<i32>().ok();
    eventually("it is made", Duration::from_secs(20), || pid().is_some());
    let pid = Pid::from_raw(pid().unwrap());
    assert!(kill(pid, None).is_ok(), "the means are there");
    kill(maker.pid, Signal::SIGKILL).unwrap();
    lxm::testing::sys::pidfd::reap(&maker.pidfd).unwrap();
    let is_gone = || {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        state.map_or(true, |stat| stat.rsplit_once(") ").unwrap().1.starts_with('Z'))
    };
    eventually("it has ended", Duration::from_secs(20), is_gone);
}
