//! Markers (`; python_version < "3.11"`): only their syntax is checked; the resolver evaluates them.
//!
//! ```text
//!   or    = and ("or" and)*             term = value op value | "(" or ")"
//!   and   = term ("and" term)*          value = 'text' | "text" | a variable of PEP 508
//! ```
//!
//! Depth and length are bounded, since strangers write markers and the parser recurses into parentheses.

use super::fault::Fault;
use crate::pin::shown;

/// How deep parentheses may be nested.
const MAX_DEPTH: u32 = 8;

/// The most comparisons in one marker. Resolvers turn a marker into a decision diagram, which can double in size with each comparison.
const MAX_TERMS: u32 = 16;

const VARIABLES: [&str; 12] = [
    "python_version",
    "python_full_version",
    "os_name",
    "sys_platform",
    "platform_release",
    "platform_system",
    "platform_version",
    "platform_machine",
    "platform_python_implementation",
    "implementation_name",
    "implementation_version",
    "extra",
];

const COMPARISONS: [&str; 8] = ["===", "==", "~=", "!=", "<=", ">=", "<", ">"];

/// Reads a marker and returns its normal form: single blanks, double quotes.
pub(super) fn parse(text: &str) -> Result<String, Fault> {
    let refuse = |why: String| Fault::Marker {
        marker: shown(text.trim()),
        why,
    };
    let mut reader = Reader {
        rest: text,
        form: String::new(),
        terms: 0,
    };
    reader.or(0).map_err(refuse)?;
    reader.blanks();
    if reader.rest.is_empty() {
        return Ok(reader.form);
    }
    Err(refuse(format!("\"{}\" is left over", shown(reader.rest))))
}

struct Reader<'a> {
    rest: &'a str,
    form: String,
    terms: u32,
}

type Parsed = Result<(), String>;

impl Reader<'_> {
    fn or(&mut self, depth: u32) -> Parsed {
        self.and(depth)?;
        while self.word("or") {
            self.form.push_str(" or ");
            self.and(depth)?;
        }
        Ok(())
    }

    fn and(&mut self, depth: u32) -> Parsed {
        self.term(depth)?;
        while self.word("and") {
            self.form.push_str(" and ");
            self.term(depth)?;
        }
        Ok(())
    }

    fn term(&mut self, depth: u32) -> Parsed {
        if self.symbol("(") {
            if depth == MAX_DEPTH {
                return Err(format!("its parentheses are over {MAX_DEPTH} deep"));
            }
            self.form.push('(');
            self.or(depth + 1)?;
            if !self.symbol(")") {
                return Err("a closing parenthesis is missing".to_owned());
            }
            self.form.push(')');
            return Ok(());
        }
        self.terms += 1;
        if self.terms > MAX_TERMS {
            return Err(format!("it has over {MAX_TERMS} comparisons"));
        }
        self.value()?;
        self.comparison()?;
        self.value()
    }

    fn comparison(&mut self) -> Parsed {
        let found = COMPARISONS.into_iter().find(|symbol| self.symbol(symbol));
        let found = match found {
            Some(symbol) => symbol,
            None if self.word("in") => "in",
            None if self.word("not") && self.word("in") => "not in",
            None => return Err(self.instead_of("a comparison")),
        };
        self.form.push(' ');
        self.form.push_str(found);
        self.form.push(' ');
        Ok(())
    }

    fn value(&mut self) -> Parsed {
        self.blanks();
        if let Some(quote) = self.rest.chars().next().filter(|c| "'\"".contains(*c)) {
            let (inner, rest) = self.rest[1..]
                .split_once(quote)
                .ok_or_else(|| "a quote is not closed".to_owned())?;
            if !inner
                .bytes()
                .all(|byte| (b' '..=b'~').contains(&byte) && byte != b'\\')
            {
                return Err(format!("\"{}\" is more than plain ASCII", shown(inner)));
            }
            // A text that contains double quotes was written in single quotes, and keeps them.
            let quote = if inner.contains('"') { '\'' } else { '"' };
            self.form.push(quote);
            self.form.push_str(inner);
            self.form.push(quote);
            self.rest = rest;
            return Ok(());
        }
        match VARIABLES.into_iter().find(|variable| self.word(variable)) {
            Some(variable) => {
                self.form.push_str(variable);
                Ok(())
            }
            None => Err(self.instead_of("a variable or quoted text")),
        }
    }

    fn instead_of(&self, expected: &str) -> String {
        match self.rest.split_whitespace().next() {
            Some(word) => format!("\"{}\" is not {expected}", shown(word)),
            None => format!("it ends where {expected} belongs"),
        }
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        self.blanks();
        match self.rest.strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Like [`Reader::symbol`], but only a whole word matches.
    fn word(&mut self, word: &str) -> bool {
        self.blanks();
        let goes_on = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        match self.rest.strip_prefix(word) {
            Some(rest) if !rest.starts_with(goes_on) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_brought_to_one_form() {
        for (text, form) in [
            (" python_version<'3.11'", "python_version < \"3.11\""),
            (
                "( os_name=='nt' )or'x'not  in sys_platform and extra == 'a \" b'",
                "(os_name == \"nt\") or \"x\" not in sys_platform and extra == 'a \" b'",
            ),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(form));
            assert_eq!(parse(form).as_deref(), Ok(form));
        }
    }

    #[test]
    fn what_is_no_marker_says_where() {
        let deep = format!("{}os_name == 'nt'", "(".repeat(100_000));
        let long = vec!["os_name == 'nt'"; 17].join(" or ");
        for (text, why) in [
            ("", "it ends where a variable"),
            ("python == '3'", "\"python\" is not a variable"),
            ("os_name 'nt'", "is not a comparison"),
            ("os_name == nt", "\"nt\" is not a variable"),
            ("os_name == 'nt", "not closed"),
            ("(os_name == 'nt'", "parenthesis is missing"),
            ("os_name == 'nt')", "\")\" is left over"),
            ("os_name == 'nt' android", "\"android\" is left over"),
            ("os_name == 'ñ'", "plain ASCII"),
            (&deep, "over 8 deep"),
            (&long, "over 16 comparisons"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(error.contains("PEP 508") && error.len() < 500, "{error}");
        }
    }
}
