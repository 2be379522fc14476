//! The only writer of standard output: tables, lists, JSON.
//!
//! What it writes passes [`crate::terminal`]: only a setting or file that was asked for is left as
//! it is where no terminal shows it.
//!
//! A reader that closes the pipe early (`lxm list | head -1`) has what it wanted: that is no error.

use std::io::{ErrorKind, IsTerminal, Write};

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

use crate::error::{Context, Error, Result};
use crate::terminal;

/// Writes lines; what of them is not ours is to be one line by [`terminal::line`].
pub(crate) fn text(text: &str) -> Result<()> {
    bytes(terminal::lines(text).as_bytes()).map(drop)
}

/// Writes a text that was asked for: as it is, unless a terminal would obey it.
pub(crate) fn exactly(text: &str) -> Result<()> {
    match std::io::stdout().is_terminal() {
        true => self::text(text),
        false => bytes(text.as_bytes()).map(drop),
    }
}

/// Writes one line.
pub(crate) fn line(line: impl std::fmt::Display) -> Result<()> {
    bytes(format!("{}\n", terminal::line(&line.to_string())).as_bytes()).map(drop)
}

/// Writes `bytes`; returns whether the output still has a reader.
pub(crate) fn bytes(bytes: &[u8]) -> Result<bool> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).context(|| "write to standard output"),
    }
}

/// Standard output for what is not text. A reader that has closed the pipe is a failure here: it
/// lacks the rest.
#[derive(Debug)]
pub(crate) struct Output;

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        std::io::stdout().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stdout().flush()
    }
}

/// Writes a value in the machine's form.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::failed(e.to_string()))?;
    bytes(format!("{}\n", terminal::json(&text)).as_bytes()).map(drop)
}

/// A time as the admin's clock shows it, with its zone; a text that is none as it is.
pub(crate) fn time(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string(),
        Err(_) => text.to_owned(),
    }
}

/// Writes a table without borders, one space between the columns, as `lxc-ls -f` does.
pub(crate) fn table<Row: IntoIterator<Item = String>>(
    header: &[&str],
    rows: impl IntoIterator<Item = Row>,
) -> Result<()> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    for row in rows {
        table.add_row(row.into_iter().map(|cell| terminal::line(&cell).into_owned()).collect::<Vec<String>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    text(&format!("{}\n", table.trim_fmt()))
}

/// Writes names side by side as wide as the terminal is; elsewhere one a line.
pub(crate) fn names(names: &[String]) -> Result<()> {
    let stdout = std::io::stdout();
    let width = rustix::termios::tcgetwinsize(&stdout).ok().filter(|_| stdout.is_terminal());
    let text = match width {
        Some(size) if size.ws_col > 0 => side_by_side(names, size.ws_col.into()),
        _ => names.iter().map(|name| format!("{name}\n")).collect(),
    };
    self::text(&text)
}

/// Lays names out in columns of one width, read line by line.
fn side_by_side(names: &[String], width: usize) -> String {
    let column = names.iter().map(String::len).max().unwrap_or(0) + 1;
    let a_line = (width / column).max(1);
    let lines = names.chunks(a_line).map(|line| {
        let line: String = line.iter().map(|name| format!("{name:column$}")).collect();
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fill_the_width_and_never_less_than_one_a_line() {
        let names = ["web", "database", "x"].map(str::to_owned);
        assert_eq!(side_by_side(&names, 20), "web      database\nx\n");
        assert_eq!(side_by_side(&names, 1), "web\ndatabase\nx\n");
        assert_eq!(side_by_side(&[], 80), "");
    }
}
