//! The lines of a .nspawn file, in systemd's syntax (systemd.syntax(7); config_parse(), src/shared/conf-parser.c).

use std::collections::BTreeMap;

use crate::ops::import::table::Setting;

/// The settings, `Section.Key`, and the lines that are none.
pub(super) fn parse(text: &str) -> (Vec<Setting>, Vec<String>) {
    let (mut settings, mut others) = (Vec::new(), Vec::new());
    let mut section = String::new();
    for line in joined(text) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.strip_suffix(']').unwrap_or_default().to_owned();
            continue;
        }
        // What begins so is for others (`X-Vendor`).
        if section.starts_with("X-") || line.starts_with("X-") {
            continue;
        }
        match line.split_once('=') {
            Some((key, value)) => {
                let (key, value) = (key.trim(), value.trim().to_owned());
                let text = format!("{key}={value}");
                settings.push(Setting { key: format!("{section}.{key}"), value, text, is_shipped: false });
            }
            None => others.push(line),
        }
    }
    (settings, others)
}

/// Lines without comments; a backslash at the end of one continues it, and becomes a space.
fn joined(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut begun: Option<String> = None;
    for line in text.trim_start_matches('\u{feff}').lines() {
        let bare = line.trim_start();
        if bare.starts_with(['#', ';']) {
            continue;
        }
        let mut whole = begun.take().unwrap_or_default();
        // An even number of backslashes are backslashes.
        let backslashes = line.len() - line.trim_end_matches('\\').len();
        if backslashes % 2 == 1 {
            whole.push_str(&line[..line.len() - 1]);
            whole.push(' ');
            begun = Some(whole);
            continue;
        }
        whole.push_str(line);
        lines.push(whole.trim().to_owned());
    }
    lines.extend(begun.map(|line| line.trim().to_owned()));
    lines.retain(|line| !line.is_empty());
    lines
}

/// What may be said several times.
const LISTS: [&str; 16] = [
    "Exec.AmbientCapability",
    "Exec.Capability",
    "Exec.CPUAffinity",
    "Exec.DropCapability",
    "Exec.Environment",
    "Exec.Parameters",
    "Exec.SystemCallFilter",
    "Files.Bind",
    "Files.Inaccessible",
    "Files.Overlay",
    "Files.TemporaryFileSystem",
    "Network.Interface",
    "Network.IPVLAN",
    "Network.MACVLAN",
    "Network.Port",
    "Network.VirtualEthernetExtra",
];

/// The settings in force: the last of each, and of a list all since an empty one.
pub(super) fn in_force(settings: Vec<Setting>) -> Vec<Setting> {
    let mut kept: Vec<Option<Setting>> = Vec::new();
    let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for setting in settings {
        let places = places.entry(setting.key.clone()).or_default();
        let is_list = LISTS.iter().any(|list| setting.key.starts_with(list));
        if !is_list || setting.value.is_empty() {
            places.drain(..).for_each(|at| kept[at] = None);
        }
        if !setting.value.is_empty() {
            places.push(kept.len());
            kept.push(Some(setting));
        }
    }
    kept.into_iter().flatten().collect()
}

/// The words of a list, which quotes hold together; backslashes stay (config_parse_strv()). `None` where a quote
/// is not closed.
pub(super) fn words(value: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in value.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_ascii_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_continued_and_commented_as_systemd_s() {
        let text = "; c\n[Exec]\n Boot = yes \nParameters=a \\\n# within\n  b\n[X-Mine]\nA=1\n[Files]\nX-B=2\nnonsense\nBind=/a\\\\\nBind=\n\
                    Volatile=state\nVolatile=no\n";
        let (settings, others) = parse(text);
        let found: Vec<_> = settings.iter().map(|s| (s.key.as_str(), s.value.as_str())).collect();
        let all = [
            ("Exec.Boot", "yes"),
            ("Exec.Parameters", "a    b"),
            ("Files.Bind", "/a\\\\"),
            ("Files.Bind", ""),
            ("Files.Volatile", "state"),
            ("Files.Volatile", "no"),
        ];
        assert_eq!((found, others), (all.to_vec(), vec!["nonsense".to_owned()]));
        let left: Vec<_> = in_force(settings).into_iter().map(|setting| setting.text).collect();
        assert_eq!(left, ["Boot=yes", "Parameters=a    b", "Volatile=no"]);
    }

    #[test]
    fn quotes_hold_words_together() {
        let split = |text: &str| words(text).map(|words| words.join("|"));
        assert_eq!(split(r#"A=1 "B=2 3" C='4 "5' D="6"7"#).as_deref(), Some(r#"A=1|B=2 3|C=4 "5|D=67"#));
        assert_eq!((split(r"a\x20b").as_deref(), split("''").as_deref()), (Some(r"a\x20b"), Some("")));
        assert_eq!((split("a 'b"), split("").as_deref()), (None, Some("")));
    }
}
