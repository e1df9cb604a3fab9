//! `.env` files as people write them, and any text at all.

use super::*;
use proptest::prelude::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    pairs.iter().map(owned).collect()
}

fn ok(text: &str) -> BTreeMap<String, String> {
    let (values, warnings) = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    assert_eq!(warnings, [], "{text:?}");
    values
}

fn warned(text: &str) -> Vec<String> {
    let (_, warnings) = parse(text).expect("the text is valid");
    warnings.iter().map(ToString::to_string).collect()
}

fn error(text: &str) -> String {
    parse(text).expect_err("the text is invalid").to_string()
}

#[test]
fn a_whole_file() {
    let text = r#"# how to reach it
export HOST=localhost # here
PORT = 5432
  NAME='it''s'

KEY="-----BEGIN-----
two\tlines
-----END-----"  # a secret
URL=postgres://${HOST}:${PORT}/${DB:-main}
EMPTY=
"#
    .replace("'it''s'", r"'it\'s ${HOST}'");
    let expected = map(&[
        ("HOST", "localhost"),
        ("PORT", "5432"),
        ("NAME", "it's ${HOST}"),
        ("KEY", "-----BEGIN-----\ntwo\tlines\n-----END-----"),
        ("URL", "postgres://localhost:5432/main"),
        ("EMPTY", ""),
    ]);
    assert_eq!(ok(&text), expected);
}

/// Each text is read as python-dotenv reads it, except where a comment says otherwise.
#[test]
fn single_entries() {
    for (text, value) in [
        ("A=b", "b"),
        ("A= b ", "b"),
        ("A\t=\tb", "b"),
        ("A=b c  d", "b c  d"),
        ("A=b#c", "b#c"),
        ("A=b #c", "b"),
        ("A=b\t#c", "b"),
        ("A=#b", "#b"),
        ("A= #b", ""),
        ("A=b=c", "b=c"),
        ("A=b'c\"", "b'c\""),
        (r"A=b\n", r"b\n"),
        ("A='b'", "b"),
        ("A='b' #c", "b"),
        ("A='b'#c", "b"),
        (r"A='\n\'\\'", r"\n'\"),
        ("A='#b'", "#b"),
        ("A='b\r\nc'", "b\r\nc"),
        (r#"A="\n\r\t\"\'\\\q\$""#, "\n\r\t\"'\\\\q\\$"),
        (r#"A="\\n""#, r"\n"),
        ("A=\"b\nc\"", "b\nc"),
        ("export A=b", "b"),
        ("export\tA=b", "b"),
        ("A=b\r\n", "b"),
        ("A=b\r", "b"),
        ("A=1\nA=2", "2"),
        ("A=1\nA=${A}2", "12"),
        ("A=${B:-}", ""),
        ("A=${B:-x y}", "x y"),
        ("A=\"${B:-x}\"", "x"),
        ("A=$B", "$B"),
        ("A=$", "$"),
        // python-dotenv expands this too; a shell expands nothing between single quotes.
        ("A='${B:-x}'", "${B:-x}"),
        ("A=é", "é"),
        ("\u{feff}A=b", "b"),
    ] {
        assert_eq!(ok(text), map(&[("A", value)]), "{text:?}");
    }
    assert_eq!(ok("export=1\nexporter=2").len(), 2);
    for empty in ["", "\n\n", "# A=b", "   # A=b\r\n  ", "\u{feff}"] {
        assert_eq!(ok(empty), map(&[]), "{empty:?}");
    }
    let chained = ok("A=1\nB=${A}${A}\nC=${B}");
    assert_eq!(chained, map(&[("A", "1"), ("B", "11"), ("C", "11")]));
}

/// A variable is looked up neither in the worker's environment, which holds the host's secrets, nor in later lines.
#[test]
fn only_earlier_lines_are_seen() {
    assert!(std::env::var_os("PATH").is_some());
    let (values, _) = parse("A=[${PATH}]\nB=[${C}]\nC=x").expect("valid");
    assert_eq!(values, map(&[("A", "[]"), ("B", "[]"), ("C", "x")]));
    assert_eq!(
        warned("\nA=${PATH}\nB=${C:-}\nC"),
        [
            ".env line 2: ${PATH} is empty, since only earlier lines of the file count; \
             set PATH above it, or write ${PATH:-default}",
            ".env line 4: no = follows the name, so that it is ignored; write NAME=value",
        ]
    );
    assert_eq!(warned(&"A\n".repeat(1000)).len(), 20);
}

#[test]
fn errors_name_the_line_and_the_remedy() {
    let cases = [
        (
            "A=1\n2B=x",
            ".env line 2: a variable's name holds '2'; use letters, digits and _, as in NAME=value, \
             and quote a value of several lines",
        ),
        (
            "KEY: secret",
            ".env line 1: a variable's name holds ':'; use letters, digits and _, as in NAME=value, \
             and quote a value of several lines",
        ),
        (
            "=x",
            ".env line 1: no name stands before the =; write NAME=value",
        ),
        (
            "A secret",
            ".env line 1: no = follows the name; write NAME=value, and quote a value of several lines",
        ),
        (
            "\r\n\rA='secret\n\n",
            ".env line 3: the quote ' is never closed; close it, or use the other kind around a \
             value that holds it",
        ),
        (
            "A=\"x\ny\" secret",
            ".env line 2: text follows the closing quote; put all of the value between the quotes, \
             or # before a comment",
        ),
        (
            "A=${sec-ret}",
            ".env line 1: ${ begins no variable; write ${NAME} or ${NAME:-default}, or put the value \
             between single quotes to keep it as it stands",
        ),
        (
            "A=\0",
            ".env line 1: a value holds NUL, which no environment can carry; encode it",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected, "{text:?}");
        assert!(!error(text).contains("secret"));
    }
    assert!(error("A=${B").contains("begins no variable"));
    assert!(error("A='${B").contains("never closed"));
    assert_eq!(
        error(&"#".repeat(MAX_DOTENV_BYTES + 1)),
        ".env has 262145 bytes; shorten it to at most 262144"
    );
}

#[test]
fn doubling_lines_are_bounded() {
    let mut text = "A=0123456789\n".to_owned();
    text.push_str(&"A=${A}${A}\n".repeat(60));
    assert!(
        error(&text).contains("more than 262144 bytes"),
        "{}",
        error(&text)
    );
}

fn single_quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

fn double_quoted(value: &str) -> String {
    let escaped = value.replace('\\', r"\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('\n', r"\n"))
}

proptest! {
    #[test]
    fn any_text_is_survived(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn any_near_dotenv_is_survived_within_bounds(
        text in "(A=|B=|export |\\$\\{A\\}|\\$\\{B:-|\\$\\{|\\}|['\"\\\\# =\t]|x|\0|\n|\r){0,60}"
    ) {
        match parse(&text) {
            Ok((values, _)) => {
                let bytes: usize = values.values().map(String::len).sum();
                prop_assert!(bytes <= MAX_DOTENV_BYTES);
                prop_assert!(values.values().all(|value| !value.contains('\0')));
            }
            Err(error) => {
                let lines = text.matches(['\n', '\r']).count() + 1;
                prop_assert!(!error.to_string().contains(['\n', '\r', '\0']));
                let DotenvError::Line { line, .. } = error else { return Err(TestCaseError::fail("small")) };
                prop_assert!((1..=lines).contains(&line));
            }
        }
    }

    #[test]
    fn whatever_is_quoted_comes_back(
        values in proptest::collection::vec("[^\0]{0,20}", 1..5), single: bool
    ) {
        let quote = if single { single_quoted } else { double_quoted };
        // A variable would be expanded between double quotes.
        prop_assume!(single || !values.iter().any(|value| value.contains("${")));
        let lines = values.iter().enumerate();
        let text: String = lines.map(|(n, value)| format!("K{n}={} # end\n", quote(value))).collect();
        let expected = values.iter().enumerate();
        let expected = expected.map(|(n, value)| (format!("K{n}"), value.clone())).collect();
        prop_assert_eq!(parse(&text), Ok((expected, Vec::new())));
    }

    #[test]
    fn line_ends_are_all_alike(end in "\n|\r|\r\n", before in 0_usize..5) {
        let text = format!("{}A=1{end}B C", format!("#x{end}").repeat(before));
        prop_assert_eq!(parse(&text), Err(DotenvError::Line { line: before + 2, fault: Fault::NoEquals }));
    }
}
