//! Text of others, for a terminal: what it could obey, or what nobody would see, is written out.
//!
//! A function's output, an error's text or a name on a page of an index is whatever its author likes. A terminal obeys
//! control characters, shows what follows a bidirectional one in another order than it was written, and shows nothing at all of
//! others, so that two texts look alike that aren't.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Must `c` be written out? Not the tab; line ends are for the caller to look after.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    match c {
        '\t' => false,
        // Most of all text.
        ' '..='~' => false,
        _ if c.is_control() => true,
        // Soft hyphen, the Arabic and the Mongolian mark.
        '\u{ad}' | '\u{61c}' | '\u{180e}' => true,
        // Of no width (those that join letters too), marks of direction; line and paragraph ends, embeddings and overrides.
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => true,
        // Invisible operators, isolates, deprecated formats.
        '\u{2060}'..='\u{206f}' => true,
        // The byte order mark, annotations, tags.
        '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        _ => false,
    }
}

/// `text` in one line, with everything that [`is_hidden`] written as `\u{…}`, and line ends too.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden)
}

/// The same for a text of several lines.
#[must_use]
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && is_hidden(c))
}

/// `json`, which is valid, with the same written as JSON does: every reader finds the same in it.
#[must_use]
pub fn visible_json(json: String) -> String {
    // JSON's own control characters are escaped in texts already, and stand nowhere else but as white space.
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
