//! What may be written to a terminal. An agent's answer is not trusted: escape sequences in it could rename the window,
//! fill the clipboard or repaint what was said.

/// The text with control characters (but line feed and tab) and characters that change the direction of writing made
/// visible.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            '\u{0}'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
            '\u{7f}' => '\u{2421}',
            other if moves(other) => '\u{fffd}',
            other => other,
        })
        .collect()
}

/// One line of JSON with the same characters escaped, so that it still says the same.
#[must_use]
pub fn json_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if moves(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

fn moves(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        for (given, expected) in [
            ("plain ä \u{1f600}\n\tx", "plain ä \u{1f600}\n\tx"),
            ("\u{1b}]52;c;eA==\u{7}", "\u{241b}]52;c;eA==\u{2407}"),
            ("a\rb\u{8}\u{7f}", "a\u{240d}b\u{2408}\u{2421}"),
            ("\u{9b}31m\u{202e}x\u{61c}", "\u{fffd}31m\u{fffd}x\u{fffd}"),
        ] {
            assert_eq!(printable(given), expected);
        }
    }
}
