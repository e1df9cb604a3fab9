//! Function names.
//!
//! A name is a URL segment, a file name in the registry and part of log paths. It is checked once, here; all other code relies on the
//! type.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name in bytes: `NAME.tar.gz` must fit the 255 bytes that Linux file systems give a
/// file name, with room left for the suffix of a temporary file beside it.
pub const MAX_NAME_BYTES: usize = 240;

/// A name that matches `[A-Za-z0-9._-]+`, is not `.` or `..`, and is at most
/// [`MAX_NAME_BYTES`] long. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionName(Arc<str>);

impl FunctionName {
    /// Checks `text` and keeps a copy of it.
    ///
    /// # Errors
    /// A [`NameError`] that says which rule was broken.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_NAME_BYTES {
            return Err(NameError::TooLong { bytes: text.len() });
        }
        if let Some(bad) = text.chars().find(|c| !is_name_char(*c)) {
            return Err(NameError::BadCharacter { bad });
        }
        // These consist of allowed characters, but joined to a path they mean another directory.
        if text == "." || text == ".." {
            return Err(NameError::Directory);
        }
        Ok(Self(text.into()))
    }

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// Why a text is no function name.
///
/// The text itself is left out except for the first wrong character: it is not trusted, and errors are shown in logs and answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("function name is empty; use letters, digits, '.', '_' and '-'")]
    Empty,
    /// Longer than [`MAX_NAME_BYTES`].
    #[error("function name has {bytes} bytes; use at most {MAX_NAME_BYTES}")]
    TooLong {
        /// Length of what was given.
        bytes: usize,
    },
    /// A character that is not allowed.
    #[error("function name holds {bad:?}; use only letters, digits, '.', '_' and '-'")]
    BadCharacter {
        /// The first such character.
        bad: char,
    },
    /// `.` or `..`.
    #[error("function name is '.' or '..', which name directories; choose another")]
    Directory,
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for FunctionName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl AsRef<str> for FunctionName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

// Allows looking up the raw text of a URL in a map keyed by name, so that an unknown name costs no allocation. Correct because Eq, Ord
// and Hash are those of the text.
impl Borrow<str> for FunctionName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for FunctionName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for FunctionName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_could_leave_the_registry() {
        assert_eq!(FunctionName::parse(""), Err(NameError::Empty));
        assert_eq!(FunctionName::parse("."), Err(NameError::Directory));
        assert_eq!(FunctionName::parse(".."), Err(NameError::Directory));
        assert_eq!(
            FunctionName::parse("a/b"),
            Err(NameError::BadCharacter { bad: '/' })
        );
        assert_eq!(
            FunctionName::parse("a\0"),
            Err(NameError::BadCharacter { bad: '\0' })
        );
        assert_eq!(
            FunctionName::parse("é"),
            Err(NameError::BadCharacter { bad: 'é' })
        );
        assert!(FunctionName::parse("...").is_ok());
        assert!(FunctionName::parse(&"a".repeat(240)).is_ok());
        assert_eq!(
            FunctionName::parse(&"a".repeat(241)),
            Err(NameError::TooLong { bytes: 241 })
        );
    }

    #[test]
    fn an_error_escapes_control_characters() {
        let error = FunctionName::parse("a\n").expect_err("a newline is no name character");
        assert_eq!(
            error.to_string(),
            r"function name holds '\n'; use only letters, digits, '.', '_' and '-'"
        );
    }

    proptest! {
        #[test]
        fn good_names_round_trip(text in "[A-Za-z0-9_-][A-Za-z0-9._-]{0,239}") {
            let name = FunctionName::parse(&text).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(name.as_str(), &text);
            let json = serde_json::to_string(&name).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(serde_json::from_str::<FunctionName>(&json).ok(), Some(name));
        }

        #[test]
        fn any_text_is_judged_by_the_rule(text in any::<String>()) {
            let lawful = !text.is_empty()
                && text.len() <= MAX_NAME_BYTES
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
                && text != "." && text != "..";
            prop_assert_eq!(FunctionName::parse(&text).is_ok(), lawful);
        }
    }
}
