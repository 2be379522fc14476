//! Lines of the account files, of the host's and of guests: passwd(5) and group(5), and those of their likes.
//!
//! A guest writes what it likes there. A line is taken apart here, once; how much of it must be right is
//! its reader's choice, and each says why: one that gives ids to a guest's files asks [`parse_id`], one that
//! keeps clear of the host's ids takes any number.

use super::parse_id;

/// The fields of a line, of which there is always a first.
pub(crate) fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

/// The line's name, its first field: of a user, of a group.
pub(crate) fn name(line: &str) -> &str {
    line.split_once(':').map_or(line, |(name, _)| name)
}

/// The field that holds the user's or the group's number, whatever it holds.
pub(crate) fn id(line: &str) -> Option<&str> {
    line.split(':').nth(2)
}

/// A user of passwd(5) whose line has all the fields that it needs. The numbers are as they stand there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passwd<'a> {
    pub name: &'a str,
    pub uid: &'a str,
    pub gid: &'a str,
    pub home: &'a str,
    pub shell: &'a str,
}

impl<'a> Passwd<'a> {
    /// `None` for a line of less than seven fields; what is behind those is not looked at.
    pub(crate) fn parse(line: &'a str) -> Option<Self> {
        let [name, _, uid, gid, _, home, shell, ..] = fields(line)[..] else { return None };
        Some(Passwd { name, uid, gid, home, shell })
    }

    /// The numbers, if both are ids that the kernel knows.
    pub(crate) fn ids(&self) -> Option<(u32, u32)> {
        Some((parse_id(self.uid)?, parse_id(self.gid)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_line_is_a_user_and_part_of_one_has_a_name_and_an_id() {
        let line = "debian:x:1000:1001:,,,:/home/debian:/bin/sh";
        let user = Passwd { name: "debian", uid: "1000", gid: "1001", home: "/home/debian", shell: "/bin/sh" };
        assert_eq!((Passwd::parse(line), user.ids()), (Some(user), Some((1000, 1001))));
        assert_eq!(Passwd::parse(&format!("{line}:more")), Some(user));
        for (line, of_name, of_id) in
            [("a:x:7", "a", Some("7")), ("a:x", "a", None), ("", "", None), (":x:+0:", "", Some("+0"))]
        {
            assert_eq!((Passwd::parse(line), name(line), id(line)), (None, of_name, of_id), "{line}");
        }
        assert_eq!(Passwd { gid: "4294967295", ..user }.ids(), None);
    }
}
