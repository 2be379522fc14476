//! The account files of a guest, edited as text (passwd(5), shadow(5), group(5)).

use super::{Edit, View};
use crate::error::Result;
use crate::types::account::{self, Passwd, fields};

/// Who logs in to a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub name: String,
    /// Lines for its `authorized_keys`.
    pub keys: Vec<String>,
    /// As crypt(3) writes it; without one the account has no password, and sudo asks none.
    pub password: Option<String>,
}

/// A name in the account files.
struct Account {
    uid: u32,
    gid: u32,
    home: String,
}

/// The first id of ordinary users on every distribution of today.
const FIRST_USER: u32 = 1000;

/// Makes the account, its home with the keys, and its right to become root.
pub(super) fn edits(view: &View, login: &Login) -> Result<Vec<Edit>> {
    let mut edits = Vec::new();
    let passwd = view.text("etc/passwd")?.unwrap_or_default();
    let account = match find(&passwd, &login.name) {
        Some(account) => account,
        None => {
            let account = create(view, &login.name, &passwd, &mut edits)?;
            edits.extend(home(view, &account)?);
            account
        }
    };
    if let Some(shadow) = view.text("etc/shadow")? {
        edits.push(Edit::write("etc/shadow", with_password(&shadow, login)));
    }
    if login.name != "root" {
        edits.extend(sudo(view, login));
    }
    if !login.keys.is_empty() {
        edits.extend(keys(view, &account, &login.keys)?);
    }
    Ok(edits)
}

fn find(passwd: &str, name: &str) -> Option<Account> {
    let entry = passwd.lines().filter_map(Passwd::parse).find(|entry| entry.name == name)?;
    let (uid, gid) = entry.ids()?;
    Some(Account { uid, gid, home: entry.home.trim_start_matches('/').to_owned() })
}

/// Adds the user and a group of its own, with the first number that both can have.
fn create(view: &View, name: &str, passwd: &str, edits: &mut Vec<Edit>) -> Result<Account> {
    let group = view.text("etc/group")?.unwrap_or_default();
    let taken = |text: &str, id: u32| text.lines().any(|line| account::id(line) == Some(&id.to_string()));
    let id = (FIRST_USER..).find(|id| !taken(passwd, *id) && !taken(&group, *id)).unwrap_or(FIRST_USER);
    let shell = if view.exists("bin/bash") { "/bin/bash" } else { "/bin/sh" };
    let line = format!("{name}:x:{id}:{id}::/home/{name}:{shell}");
    edits.push(Edit::write("etc/passwd", with_line(passwd, &line)));

    let mut groups = with_line(&group, &format!("{name}:x:{id}:"));
    // What a user set up by Debian's or Ubuntu's installer is in, where the guest has it.
    for member_of in ["sudo", "wheel", "adm"] {
        groups = with_member(&groups, member_of, name);
    }
    edits.push(Edit::write("etc/group", groups));
    if let Some(gshadow) = view.text("etc/gshadow")? {
        let mut gshadow = with_line(&gshadow, &format!("{name}:!::"));
        for member_of in ["sudo", "wheel", "adm"] {
            gshadow = with_member(&gshadow, member_of, name);
        }
        edits.push(Edit::write("etc/gshadow", gshadow));
    }
    Ok(Account { uid: id, gid: id, home: format!("home/{name}") })
}

/// Appends a line unless its name (the first field) is there.
fn with_line(text: &str, line: &str) -> String {
    if text.lines().any(|other| account::name(other) == account::name(line)) {
        return text.to_owned();
    }
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{gap}{line}\n")
}

/// Puts `user` into the member list of `group`, the last field of its line.
fn with_member(text: &str, group: &str, user: &str) -> String {
    let edit = |line: &str| -> String {
        let fields = fields(line);
        match fields.split_last() {
            Some((members, head)) if head.first() == Some(&group) => {
                let mut members: Vec<&str> = members.split(',').filter(|m| !m.is_empty()).collect();
                if !members.contains(&user) {
                    members.push(user);
                }
                format!("{}:{}", head.join(":"), members.join(","))
            }
            _ => line.to_owned(),
        }
    };
    lines(text.lines().map(edit))
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| line + "\n").collect()
}

/// Sets the password of the login; a new account without one gets `*`, with which PAM still lets
/// in who has a key (`!` would lock the account for sshd without PAM).
fn with_password(shadow: &str, login: &Login) -> String {
    let text = with_line(shadow, &format!("{}:*:::::::", login.name));
    let Some(hash) = &login.password else { return text };
    let edit = |line: &str| -> String {
        let mut fields = fields(line);
        if fields[0] == login.name && fields.len() > 1 {
            fields[1] = hash;
        }
        fields.join(":")
    };
    lines(text.lines().map(edit))
}

/// Without a password nothing could be typed at sudo's prompt, so it asks none.
fn sudo(view: &View, login: &Login) -> Option<Edit> {
    if !view.exists("etc/sudoers.d") {
        return None;
    }
    let path = format!("etc/sudoers.d/90-lxm-{}", login.name);
    Some(match login.password {
        None => Edit::write(path, format!("{} ALL=(ALL:ALL) NOPASSWD: ALL\n", login.name)).mode(0o440),
        Some(_) => Edit::remove(path),
    })
}

/// The home of a new user with the files of `/etc/skel`.
fn home(view: &View, account: &Account) -> Result<Vec<Edit>> {
    let mut edits = vec![Edit::directory(&account.home).mode(0o700).owner(account.uid, account.gid)];
    for name in view.names("etc/skel") {
        if let Ok(Some(text)) = view.text(&format!("etc/skel/{name}")) {
            edits.push(
                Edit::write(format!("{}/{name}", account.home), text).mode(0o644).owner(account.uid, account.gid),
            );
        }
    }
    Ok(edits)
}

fn keys(view: &View, account: &Account, keys: &[String]) -> Result<Vec<Edit>> {
    let dir = format!("{}/.ssh", account.home);
    let file = format!("{dir}/authorized_keys");
    let mut text = view.text(&file)?.unwrap_or_default();
    for key in keys {
        if !text.lines().any(|line| line == key) {
            text = format!("{text}{key}\n");
        }
    }
    let owned = |edit: Edit| edit.owner(account.uid, account.gid);
    Ok(vec![owned(Edit::directory(dir).mode(0o700)), owned(Edit::write(file, text).mode(0o600))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_added_once_and_only_to_its_group() {
        let group = "root:x:0:\nsudo:x:27:\nadm:x:4:syslog\n";
        let once = with_member(&with_member(group, "sudo", "debian"), "adm", "debian");
        assert_eq!(once, "root:x:0:\nsudo:x:27:debian\nadm:x:4:syslog,debian\n");
        assert_eq!(with_member(&once, "sudo", "debian"), once);
    }

    #[test]
    fn a_password_replaces_the_old_one_and_no_other() {
        let login = |password: Option<&str>| Login {
            name: "debian".into(),
            keys: Vec::new(),
            password: password.map(str::to_owned),
        };
        let shadow = "root:*:1:0:99999:7:::\n";
        let without = with_password(shadow, &login(None));
        assert_eq!(without, "root:*:1:0:99999:7:::\ndebian:*:::::::\n");
        assert_eq!(with_password(&without, &login(Some("$6$x"))), "root:*:1:0:99999:7:::\ndebian:$6$x:::::::\n");
        assert_eq!(with_password(&without, &login(None)), without);
    }

    #[test]
    fn lines_are_appended_after_a_missing_newline_too() {
        assert_eq!(with_line("a:1", "b:2"), "a:1\nb:2\n");
        assert_eq!(with_line("", "b:2"), "b:2\n");
        assert_eq!(with_line("b:1\n", "b:2"), "b:1\n");
    }
}
