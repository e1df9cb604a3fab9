//! A macro for settings whose value is one of a few words.
//!
//! Each needs the same five things: the word of a value, the list of all words for error messages, parsing, and both halves of serde.

/// Defines an enum whose variants are words in a configuration file.
macro_rules! text_enum {
    (
        $(#[$outer:meta])*
        pub enum $name:ident {
            $( $(#[$inner:meta])* $variant:ident = $text:literal, )+
        }
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $( $(#[$inner])* $variant, )+
        }

        impl $name {
            /// Every word that is accepted, in the order of the variants.
            pub const WORDS: &'static [&'static str] = &[$($text),+];

            /// The word as the configuration spells it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text, )+ }
            }

            /// The value a word stands for, if it is one of [`Self::WORDS`].
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $( $text => Some(Self::$variant), )+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = String::deserialize(deserializer)?;
                Self::from_word(&word).ok_or_else(|| {
                    serde::de::Error::custom(crate::text_enum::not_one_of(&word, Self::WORDS))
                })
            }
        }
    };
}

pub(crate) use text_enum;

/// The error text for a word that is not allowed.
pub(crate) fn not_one_of(word: &str, allowed: &[&str]) -> String {
    let list: Vec<String> = allowed.iter().map(|w| format!("\"{w}\"")).collect();
    format!("{word:?} is not one of {}", list.join(", "))
}
