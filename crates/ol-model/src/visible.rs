//! Makes untrusted text safe for a terminal: control characters and invisible ones are written as escapes.
//!
//! The author of a function's output, of an error's text or of a name in a package index can put any character in it. A terminal obeys
//! control characters, reorders text after a bidirectional one, and doesn't show others at all, so that two different texts can look
//! the same.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether `c` must be written as an escape. A tab need not; the caller handles line ends.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    match c {
        '\t' => false,
        // Most characters, so they are checked first.
        ' '..='~' => false,
        _ if c.is_control() => true,
        // Soft hyphen, the Arabic and the Mongolian mark.
        '\u{ad}' | '\u{61c}' | '\u{180e}' => true,
        // Characters without width (also those that join letters), direction marks, line and paragraph separators, embeddings, overrides.
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => true,
        // Invisible operators, isolates, deprecated formats.
        '\u{2060}'..='\u{206f}' => true,
        // The byte order mark, annotations, tags.
        '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        _ => false,
    }
}

/// `text` in one line: every [`is_hidden`] character and every line end is written as an escape.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden)
}

/// `text` with every [`is_hidden`] character written as an escape; line ends stay.
#[must_use]
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && is_hidden(c))
}

/// `json`, which must be valid, with every [`is_hidden`] character written as a JSON escape, so that its meaning stays the same.
#[must_use]
pub fn visible_json(json: String) -> String {
    // In valid JSON, control characters in strings are escaped already, and elsewhere occur only as white space.
    if !json.chars().any(|c| !c.is_ascii() && is_hidden(c)) {
        return json;
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if c.is_ascii() || !is_hidden(c) {
            shown.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String can't fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        }
    }
    shown
}

fn escaped(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hidden(c) {
            let _ = write!(shown, "{}", c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_terminal_obeys_or_hides_is_written_out() {
        for c in [
            '\0',
            '\x07',
            '\x08',
            '\r',
            '\x1b',
            '\x7f',
            '\u{80}',
            '\u{9b}',
            '\u{9f}',
            '\u{ad}',
            '\u{61c}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202a}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2069}',
            '\u{feff}',
            '\u{e0041}',
        ] {
            assert_eq!(
                visible(&format!("a{c}b")),
                format!("a{}b", c.escape_default())
            );
        }
        let plain = "tab\t, ASCII ~, Grüße, 日本語, עברית, العربية, 🙂";
        assert!(matches!(visible(plain), Cow::Borrowed(text) if text == plain));
        assert_eq!(visible("a\nb"), "a\\nb");
        assert_eq!(visible_lines("a\n\x1b[2J"), "a\n\\u{1b}[2J");
    }

    proptest! {
        #[test]
        fn json_stays_the_same_value(text in any::<String>(), other in "[\u{202a}-\u{202e}\u{e0041}a]*") {
            let value = serde_json::json!({ text: other });
            let shown = visible_json(value.to_string());
            prop_assert!(!shown.chars().any(is_hidden));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), value);
        }
    }
}
