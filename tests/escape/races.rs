//! A guest that changes something while lxm is on its way to it, or puts another thing in its place.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::means::{compile, give, inside, meanwhile, on_host};
use crate::support::pty::Terminal;
use crate::support::{Guest, Need, Sandbox, Trial, command, eventually, run};

const SOON: Duration = Duration::from_secs(20);

pub fn trials() -> Vec<Trial> {
    let trial = |name, body| Trial::new(name, body).guest(Guest::Busybox).needs(Need::Tool("gcc"));
    vec![
        trial("escape::races::cve_2021_30465_targets_on_a_shared_volume", shared_volume),
        trial("escape::races::a_false_terminal_is_not_opened", false_terminal),
        trial("escape::races::cve_2019_5736_the_program_of_the_host", program_of_the_host).limit(120),
        trial("escape::races::cve_2024_21626_directories_of_the_host", directories_of_the_host),
        trial("escape::races::cve_2025_31133_covers_of_a_guest_that_reboots", covers),
    ]
}

/// A volume that the guest's root may write to.
fn volume(sandbox: &Sandbox, name: &str) -> PathBuf {
    let dir = sandbox.path(name);
    fs::create_dir(&dir).unwrap();
    chown(&dir, Some(1000), Some(1000)).unwrap();
    dir
}

fn show(sandbox: &Sandbox, guest: &str, source: &Path, target: &str) {
    let file = sandbox.layout().config_file(&guest.parse().unwrap());
    let source = source.display();
    let text = format!("\n[[mount]]\nsource = \"{source}\"\ntarget = \"{target}\"\nidmap = \"root\"\n");
    fs::write(&file, fs::read_to_string(&file).unwrap() + &text).unwrap();
}

/// Where the guest's second volume is mounted.
fn places(sandbox: &Sandbox) -> Vec<String> {
    let table = inside(sandbox, "victim", "grep '/second ' /proc/self/mountinfo | cut -d' ' -f5").ok().stdout;
    table.lines().map(str::to_owned).collect()
}

/// Two guests share a volume, and one of them has a second volume mounted within it: the other one makes
/// its target a link, and what it has written there would be the victim's /etc.
fn shared_volume(sandbox: &Sandbox) {
    let (shared, second) = (volume(sandbox, "shared"), volume(sandbox, "second"));
    for guest in ["attacker", "victim"] {
        sandbox.create(guest, Guest::Busybox, &[]);
        show(sandbox, guest, &shared, "/vol");
    }
    show(sandbox, "attacker", &second, "/second");
    show(sandbox, "victim", &second, "/vol/data");
    sandbox.lxm(&["start", "attacker"]).ok();
    give(sandbox, "attacker", "races");
    inside(sandbox, "attacker", "echo evil:x:0:0::/:/bin/sh >/second/passwd; ln -s /etc /vol/data").ok();
    sandbox.lxm(&["start", "victim"]).fails(1).complains("make the mount point `/vol/data`").complains("hint: ");
    inside(sandbox, "attacker", "mkdir /vol/dir && rm /vol/data && mv /vol/dir /vol/data").ok();
    // The means: what is there is shown, and a link there is followed by whoever follows links.
    sandbox.lxm(&["start", "victim"]).ok();
    assert_eq!(places(sandbox), ["/vol/data"]);
    inside(sandbox, "attacker", "ln -s /etc /vol/link").ok();
    inside(sandbox, "victim", "cat /vol/link/passwd").ok().says("root");
    sandbox.lxm(&["stop", "-k", "victim"]).ok();

    inside(sandbox, "attacker", "touch /tmp/go").ok();
    meanwhile(sandbox, "attacker", "/races swap /vol/data /vol/link /tmp/go");
    let mut refused = 0;
    for nth in 0..50 {
        if nth >= 10 && refused > 0 {
            break;
        }
        let started = sandbox.lxm(&["start", "victim"]);
        if started.status == 0 {
            // The directory is found under the name that it has when it is looked for.
            let found = places(sandbox);
            assert!(found.iter().all(|place| place == "/vol/data" || place == "/vol/link"), "{found:?}");
            inside(sandbox, "victim", "cat /etc/passwd").ok().says("root");
        }
        refused += i32::from(started.status != 0);
        sandbox.lxm(&["stop", "-k", "victim"]).stdout.clear();
    }
    inside(sandbox, "attacker", "rm /tmp/go; until grep -q swapped /tmp/told; do sleep 0.1; done").ok();
    assert!(refused > 0, "the attacker never won the race");
}

/// `attach -t` takes a terminal that is opened in the guest to this side. One that the guest serves itself
/// would never answer a read, a write or a close.
fn false_terminal(sandbox: &Sandbox) {
    sandbox.boot("g", Guest::Busybox, &[]);
    give(sandbox, "g", "races");
    let attach = || Terminal::script(sandbox, "\"$LXM\" attach -t g -- echo from the guest");
    let mut honest = attach();
    honest.shows("from the guest");
    assert_eq!(honest.ends(), 0);
    meanwhile(sandbox, "g", "/races ptmx");
    eventually("it is in place", SOON, || inside(sandbox, "g", "cat /tmp/told").stdout.contains("placed: ok"));
    inside(sandbox, "g", "cat /tmp/told").ok().says("means: ok 1 file");
    let mut refused = attach();
    refused.shows("not a terminal multiplexer");
    assert_eq!(refused.ends(), 125);
    // What else it may put there.
    for other in ["mkfifo /dev/ptmx", "ln -s null /dev/ptmx", "mkdir /dev/ptmx", "ln -s pts/0 /dev/ptmx", "true"] {
        inside(sandbox, "g", &format!("rm -rf /dev/ptmx; {other}")).ok();
        assert_eq!(attach().ends(), 125, "{other}");
    }
    inside(sandbox, "g", "ln -s pts/ptmx /dev/ptmx").ok();
    assert_eq!(attach().ends(), 0);
}

/// Run as the loader of a program of the host's: stays for a moment.
const LOADER: &str = r#"
static long call(long number, long a, long b, long c, long d) {
    long result;
#ifdef __x86_64__
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
#else
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c,
                  x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    result = x0;
#endif
    return result;
}
void _start(void) {
    long moment[2] = {0, 200000000};
#ifdef __x86_64__
    call(271, 0, 0, (long)moment, 0), call(60, 0, 0, 0, 0);
#else
    call(73, 0, 0, (long)moment, 0), call(93, 0, 0, 0, 0);
#endif
}
"#;

/// Where the kernel looks for the loader of a program.
fn loader_of(program: &[u8]) -> String {
    let at = program.windows(5).position(|part| part == b"/lib/" || part == b"/lib6").unwrap();
    let end = program[at..].iter().position(|byte| *byte == 0).unwrap();
    String::from_utf8(program[at..at + end].to_owned()).unwrap()
}

/// A guest that has lxm execute itself there (`#!/proc/self/exe`), with a loader of its own, holds its
/// program, and writes to it when no process runs it any more. Only on a copy, lest it succeed.
fn program_of_the_host(sandbox: &Sandbox) {
    let lxm = sandbox.path("lxm");
    fs::copy(crate::support::sandbox::program(), &lxm).unwrap();
    let victim = sandbox.path("victim");
    fs::copy(compile(sandbox, "races"), &victim).unwrap();
    let before = fs::read(&lxm).unwrap();
    let (loader, at) = (super::surface::compile(sandbox, "loader", LOADER, &[]), loader_of(&before));
    let run = |words: &[&str]| {
        let mut command = Command::new(&lxm);
        sandbox.environment(&mut command);
        command.args(words);
        command::bounded(command, b"", Duration::from_secs(60))
    };
    for more in [&["--privileged"][..], &[]] {
        sandbox.create("g", Guest::Busybox, more);
        run(&["start", "g"]).ok();
        give(sandbox, "g", "races");
        inside(sandbox, "g", "printf '#!/proc/self/exe\\n' >/bin/evil; chmod 755 /bin/evil; touch /tmp/go").ok();
        inside(sandbox, "g", &format!("mkdir -p $(dirname {at})")).ok();
        sandbox.lxm(&["push", &loader, &format!("g:{at}")]).ok();
        inside(sandbox, "g", &format!("chmod 755 {at}")).ok();
        let watch = |what: &dyn Fn()| {
            meanwhile(sandbox, "g", "/races exe /tmp/go");
            what();
            inside(sandbox, "g", "rm /tmp/go; until grep -q ^held /tmp/told; do sleep 0.1; done; touch /tmp/go").ok();
            inside(sandbox, "g", "cat /tmp/told").ok()
        };
        let told = watch(&|| {
            for words in [&["/bin/evil"][..], &["/bin/evil", "list"], &["true"]].repeat(2) {
                drop(run(&[&["attach", "g", "--"], words].concat()));
            }
        });
        assert!(told.stdout.contains("holds "), "the guest was never there in time: {told}");
        assert!(told.stdout.contains("changed 0"), "{told}");
        assert!(fs::read(&lxm).unwrap() == before, "the program was written to: {told}");
        // The means: a program of the host's that is run in reach of the guest, by whoever takes no care.
        let leader = sandbox.leader("g").to_string();
        let told = watch(&|| drop(on_host(&victim, &["enter", &leader]).ok().says("ended: ok")));
        let overwritten = fs::read(&victim).unwrap().starts_with(b"overwritten");
        assert_eq!(overwritten, !more.is_empty(), "{told}");
        assert!(
            overwritten || told.stdout.contains("refused 1") || told.stdout.contains("write: Permission"),
            "{told}"
        );
        fs::copy(compile(sandbox, "races"), &victim).unwrap();
        sandbox.lxm(&["destroy", "-f", "g"]).ok();
    }
}

/// In the root directory of the host, and of no guest of these trials.
const HOST_ONLY: &str = "boot";

/// Neither what is open where lxm is called nor where that is can be reached by number.
fn directories_of_the_host(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Busybox, &[]);
    fs::write(sandbox.path("of-the-host"), "").unwrap();
    let here = format!("cd {}; exec 3<. 4<of-the-host 5>>out 6</ 7<>/dev/tty;", sandbox.root().display());
    // The means: who is started so has all of it.
    let list = "for p in /proc/[0-9]*; do ls -l $p/fd $p/cwd; ls $p/cwd/ $p/fd/*/; done 2>/dev/null; echo listed";
    let mut plain = Terminal::script(sandbox, &format!("{here} ls /proc/self/fd/3/ /proc/self/fd/6/; echo listed"));
    let seen = plain.shows("listed\r\n");
    assert!(seen.contains("of-the-host") && seen.contains(HOST_ONLY), "{seen}");
    assert_eq!(plain.ends(), 0);
    // The console of a start in the foreground, whose input is a directory of the host.
    let mut foreground = Terminal::script(sandbox, &format!("{here} \"$LXM\" start -F p; echo over"));
    let running = || sandbox.lxm(&["info", "p", "--format", "json"]).stdout.contains("\"running\"");
    eventually("it runs", SOON, running);
    let none = |seen: &str, what: &str| {
        assert!(seen.contains("listed"), "{what}: {seen}");
        let words = [sandbox.root().to_str().unwrap(), "of-the-host", "anon_inode:[", HOST_ONLY];
        let found: Vec<&&str> = words.iter().filter(|word| seen.contains(**word)).collect();
        assert!(found.is_empty(), "{what}: {found:?} in {seen}");
    };
    none(&inside(sandbox, "p", list).ok().stdout, "start -F");
    for stream in ["", "<.", "<of-the-host >>out"] {
        let line = format!("{here} \"$LXM\" attach p -- sh -c '{list}' {stream}; cat out");
        let mut attached = Terminal::script(sandbox, &format!("{line}; rm out; echo done"));
        none(&attached.shows("done\r\n"), stream);
        assert_eq!(attached.ends(), 0);
    }
    // As runc's working directory: by the number of whatever is open on the way.
    for number in 0..24 {
        let place = format!("/proc/self/fd/{number}");
        for place in [place.clone(), format!("{place}/.."), format!("{place}/../../../../..")] {
            let tried = sandbox.lxm(&["attach", "p", "--cwd", &place, "--", "ls", ".", "..", "../.."]);
            assert!(!tried.stdout.contains(HOST_ONLY), "{place}: {tried}");
        }
    }
    let leader = sandbox.leader("p").to_string();
    let entered = run("nsenter", &["-t", &leader, "-U", "-m", "-p", "-S", "0", "-G", "0", "--wd=/", "ls"]).ok();
    assert!(entered.stdout.contains(HOST_ONLY), "the means are there: {entered}");
    sandbox.lxm(&["stop", "-k", "p"]).ok();
    foreground.shows("over");
}

/// CVE-2025-31133, CVE-2025-52565: a guest that swaps /dev/null for a link from its first moment on, and boots
/// again and again.
fn covers(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Busybox, &[]);
    give(sandbox, "p", "races");
    let boot = "\necho >>/root/boots; rm -f /dev/evil; ln -s /proc/sysrq-trigger /dev/evil; touch /run/go\n\
                /races swap /dev/null /dev/evil /run/go >/run/swapped 2>&1 &\n";
    inside(sandbox, "p", &format!("printf '{boot}' >>/etc/init.d/rcS")).ok();
    let boots = || inside(sandbox, "p", "cat /root/boots 2>/run/none | wc -l").stdout.trim().parse().unwrap_or(0);
    for boot in 1..=4 {
        let took_off = "umount /dev/console; mount -t tmpfs own /dev/pts; ln -s /proc/sysrq-trigger /dev/pts/0; true";
        inside(sandbox, "p", took_off).ok();
        drop(inside(sandbox, "p", "reboot -f"));
        eventually("it has booted again", SOON, || boots() == boot);
        let covered = ["/proc/keys", "/proc/timer_list", "/proc/sysrq-trigger", "/proc/kcore", "/proc/kallsyms"];
        for mask in covered.iter().filter(|path| Path::new(path).exists()) {
            inside(sandbox, "p", &format!("stat -c %t:%T {mask}")).ok().says("1:3");
        }
        inside(sandbox, "p", "test -c /dev/console && echo x >/proc/sys/kernel/core_pattern").fails(1);
        // The means: it was at it.
        let swapped = "rm /run/go; until grep -q ^swapped /run/swapped; do sleep 0.1; done; cat /run/swapped";
        let count = inside(sandbox, "p", swapped).ok();
        assert!(count.line()[9..].parse::<u64>().unwrap() > 100, "{count}");
    }
    let mut console = Terminal::open(sandbox, &["console", "p"], 24, 80);
    console.shows("Connected");
    inside(sandbox, "p", "echo from its console >/dev/console").ok();
    console.shows("from its console");
}
