//! Colour, bars and figures for a terminal. Pure text; who prints it is left to the caller.

use std::io::IsTerminal;

/// Whether and how text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    is_coloured: bool,
}

/// What a piece of text is, so that one place decides how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Good news.
    Good,
    /// Bad news.
    Bad,
    /// Worth a look.
    Warn,
    /// A heading.
    Head,
    /// Less important than what stands beside it.
    Faint,
    /// The stable version.
    Stable,
    /// The canary version.
    Canary,
    /// A name or an identity.
    Name,
}

impl Style {
    /// Plain text.
    pub const PLAIN: Self = Self { is_coloured: false };
    /// Coloured text.
    pub const COLOURED: Self = Self { is_coloured: true };

    /// Coloured when standard output is a terminal that can and nobody objects (<https://no-color.org>).
    pub fn of_stdout(no_color: bool) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { is_coloured: !no_color && !set("NO_COLOR") && !dumb && std::io::stdout().is_terminal() }
    }

    /// `text` in `ink`.
    pub fn paint(self, ink: Ink, text: &str) -> String {
        if !self.is_coloured || text.is_empty() {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Good => "32",
            Ink::Bad => "1;31",
            Ink::Warn => "33",
            Ink::Head => "1",
            Ink::Faint => "2",
            Ink::Stable => "34",
            Ink::Canary => "38;5;214",
            Ink::Name => "36",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Columns and rows of the terminal on standard output; None where it is none.
pub fn size() -> Option<(u16, u16)> {
    let (width, height) = terminal_size::terminal_size()?;
    std::io::stdout().is_terminal().then_some((width.0, height.0))
}

/// Columns to lay text out for: the terminal's, but no line gets longer than is good to read; 100 where there is none.
pub fn columns() -> usize {
    size().map_or(100, |(columns, _)| usize::from(columns).clamp(40, 120))
}

/// `text` in lines of at most `columns`, broken at spaces; a longer word has a line of its own. Only for text without
/// colours.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    if lines.is_empty() {
        lines.push(String::new());
    }
    lines
}

/// Number of columns that `text` takes, colours not counted. Every character here is one column wide.
pub fn width(text: &str) -> usize {
    let mut columns = 0;
    let mut inside_escape = false;
    for c in text.chars() {
        match (inside_escape, c) {
            (false, '\x1b') => inside_escape = true,
            (false, _) => columns += 1,
            (true, 'a'..='z' | 'A'..='Z') => inside_escape = false,
            (true, _) => {}
        }
    }
    columns
}

/// `text` cut to `columns`, with an ellipsis where something was lost. Only for text without colours.
pub fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

/// Spaces that fill coloured `text` up to `columns`.
pub fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// `fraction` (0 to 1) of `columns` columns as blocks, in eighths of a column.
pub fn bar(fraction: f64, columns: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (fraction.clamp(0.0, 1.0) * columns as f64 * 8.0).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// One character that is as high as `fraction` (0 to 1).
pub fn spark(fraction: f64) -> char {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    HEIGHTS[(fraction.clamp(0.0, 1.0) * 7.0).round() as usize]
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds as a person says them: `45 s`, `12 min`, `5 h 10 min`, `3 d 4 h`.
pub fn spoken_seconds(seconds: i64) -> String {
    let s = seconds.unsigned_abs();
    match s {
        0..120 => format!("{s} s"),
        120..7_200 => format!("{} min", s / 60),
        7_200..172_800 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        assert_eq!(bar(0.0, 10), "");
        assert_eq!(bar(1.0, 10), "██████████");
        assert_eq!(bar(0.5, 5), "██▌");
        assert_eq!(bar(7.0, 3), "███");
        assert_eq!(bar(f64::NAN, 3), "");
    }

    #[test]
    fn colours_take_no_columns() {
        let painted = Style::COLOURED.paint(Ink::Canary, "v1-canary");
        assert_eq!(width(&painted), 9);
        assert_eq!(width(&pad(&painted, 12)), 12);
        assert_eq!(Style::PLAIN.paint(Ink::Bad, "x"), "x");
    }

    #[test]
    fn text_is_broken_at_spaces() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("incomprehensible", 4), ["incomprehensible"]);
        assert_eq!(wrap("", 4), [""]);
    }

    #[test]
    fn figures_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(spoken_seconds(3 * 86_400 + 4 * 3600), "3 d 4 h");
        assert_eq!(spoken_seconds(90), "90 s");
        assert_eq!(cut("abcdef", 4), "abc…");
    }
}
