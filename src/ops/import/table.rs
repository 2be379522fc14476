//! Tables of other programs' settings: for each one what lxm makes of it, or why it is lost.
//!
//! The tables are what reads them, and docs/IMPORT.md is written from the same rows.

/// A setting as another program's file has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Setting {
    /// Its newest name.
    pub key: String,
    pub value: String,
    /// As it is written, for the admin.
    pub text: String,
    /// It is part of what the program gives to every container: if it is lost, that is no news.
    pub is_shipped: bool,
}

/// What became of a setting.
pub(super) enum Taken {
    /// It is in the configuration, or lxm does so anyway.
    Over,
    /// It is lost, as its row says.
    Lost,
    /// This value of it is, for that reason.
    LostFor(String),
}

impl Taken {
    /// Of a value that is lost as the row says, unless it could be taken over.
    pub(super) fn if_so(taken: bool) -> Self {
        if taken { Taken::Over } else { Taken::Lost }
    }
}

/// One line of a table: a setting of another program's, where it is read into an `M`.
pub(super) struct Row<M: 'static> {
    /// Its names, the newest first, between spaces. A `*` at the end stands for whatever follows.
    pub keys: &'static str,
    /// What lxm makes of it; of what is lost, why.
    pub becomes: &'static str,
    pub take: fn(&mut M, &Setting) -> Taken,
    is_lost: bool,
}

impl<M> Row<M> {
    /// A setting that lxm has, or has for some values.
    pub(super) const fn takes(keys: &'static str, becomes: &'static str, take: fn(&mut M, &Setting) -> Taken) -> Self {
        Row { keys, becomes, take, is_lost: false }
    }

    /// A setting that says what lxm does by itself, or that has no meaning for it.
    pub(super) const fn same(keys: &'static str, becomes: &'static str) -> Self {
        Row::takes(keys, becomes, |_, _| Taken::Over)
    }

    /// A setting that lxm does not have.
    pub(super) const fn lost(keys: &'static str, why: &'static str) -> Self {
        Row { keys, becomes: why, take: |_, _| Taken::Lost, is_lost: true }
    }

    /// Why no value of it is taken over, if so.
    fn reason(&self) -> &'static str {
        if self.is_lost { self.becomes } else { "" }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.split_whitespace()
    }
}

/// The row of the setting `key`: the one with that name, else the one with the longest beginning of it.
pub(super) fn find<'a, M>(rows: &'a [Row<M>], key: &str) -> Option<&'a Row<M>> {
    let length = |row: &&Row<M>| {
        let fits = |name: &str| match name.strip_suffix('*') {
            Some(beginning) => key.starts_with(beginning).then_some(beginning.len()),
            None => (name == key).then_some(usize::MAX),
        };
        row.names().filter_map(fits).max()
    };
    rows.iter().filter(|row| length(row).is_some()).max_by_key(length)
}

/// Takes a setting over into `made`; gives the note of one that is lost.
pub(super) fn take<M>(rows: &[Row<M>], made: &mut M, setting: &Setting) -> Option<String> {
    let Some(row) = find(rows, &setting.key) else {
        return Some(format!("not taken over: `{}`", shortened(&setting.text)));
    };
    let why = match (row.take)(made, setting) {
        Taken::Over => return None,
        _ if setting.is_shipped => return None,
        // Of a row that has other values too, what is said of those that are lost.
        Taken::Lost => row.becomes.rsplit_once("lost: ").map_or(row.reason(), |(_, why)| why).to_owned(),
        Taken::LostFor(why) => why,
    };
    let why = if why.is_empty() { why } else { format!(": {why}") };
    Some(format!("not taken over: `{}`{why}", shortened(&setting.text)))
}

/// What a foreign file has at length is told by its beginning.
fn shortened(text: &str) -> std::borrow::Cow<'_, str> {
    const MOST: usize = 300;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// The rows as lines of docs/IMPORT.md.
#[cfg(test)]
pub(super) fn document<M>(rows: &[Row<M>], prefix: &str) -> String {
    let cell = |text: &str| text.replace('|', "\\|");
    let line = |row: &Row<M>| {
        let names: Vec<_> = row.names().map(|name| format!("`{prefix}{}`", cell(name))).collect();
        let lost = if row.is_lost { "lost: " } else { "" };
        format!("| {} | {lost}{} |\n", names.join(", "), cell(row.becomes))
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &[Row<Vec<String>>] = &[
        Row::same("a.* old", "is"),
        Row::takes("a.b", "is `c`; others are lost: there is no other", |made, setting| {
            made.push(setting.value.clone());
            Taken::if_so(setting.value != "bad")
        }),
        Row::lost("a.b.c", "nobody has it"),
    ];

    #[test]
    fn a_setting_is_read_by_the_row_that_names_it_best() {
        let mut made = Vec::new();
        let mut told = |key: &str, value: &str| {
            let setting =
                Setting { key: key.into(), value: value.into(), text: format!("{key} = {value}"), is_shipped: false };
            take(ROWS, &mut made, &setting)
        };
        assert_eq!((told("a.b", "x"), told("a.z", "x"), told("old", "x")), (None, None, None));
        assert_eq!(told("a.b", "bad").as_deref(), Some("not taken over: `a.b = bad`: there is no other"));
        assert_eq!(told("a.b.c", "x").as_deref(), Some("not taken over: `a.b.c = x`: nobody has it"));
        assert_eq!(told("b", "x").as_deref(), Some("not taken over: `b = x`"));
        assert!(told("b", &"é".repeat(1000)).unwrap().len() < 1000);
        assert_eq!(made, ["x", "bad"]);
    }
}
