//! A position in a text, which counts lines. Lines end in `\n`, `\r\n` or `\r`.

/// The position up to which the text was read.
pub(super) struct Cursor<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            rest: text,
            line: 1,
        }
    }

    /// What is still to be read.
    pub(super) fn rest(&self) -> &'a str {
        self.rest
    }

    pub(super) fn at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The present line, counted from 1.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// Skips `bytes` bytes, which must end at a character's end.
    pub(super) fn advance(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at(bytes);
        let newlines = passed.bytes().filter(|b| matches!(b, b'\n' | b'\r'));
        let pairs = passed.matches("\r\n").count();
        // If `\r\n` is cut in two here, the line is counted with the `\n`.
        let cut = usize::from(passed.ends_with('\r') && rest.starts_with('\n'));
        self.line += newlines.count() - pairs - cut;
        self.rest = rest;
    }

    pub(super) fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let text = self.rest;
        let end = text.find(|c| !wanted(c)).unwrap_or(text.len());
        self.advance(end);
        &text[..end]
    }

    /// Skips `wanted` if it is next, and returns whether it was.
    pub(super) fn skip(&mut self, wanted: char) -> bool {
        let found = self.rest.starts_with(wanted);
        if found {
            self.advance(wanted.len_utf8());
        }
        found
    }

    /// Skips white space within the line, and returns whether there was any.
    pub(super) fn skip_blanks(&mut self) -> bool {
        let blanks = self.take_while(|c| c.is_whitespace() && !is_line_end(c));
        !blanks.is_empty()
    }

    /// Skips white space, a comment and the end of the line, and returns true. If something else is next, skips nothing.
    pub(super) fn skip_comment_and_line_end(&mut self) -> bool {
        self.skip_blanks();
        if self.rest.starts_with('#') {
            self.take_while(|c| !is_line_end(c));
        }
        if !self.at_end() && !self.rest.starts_with(is_line_end) {
            return false;
        }
        if self.rest.starts_with("\r\n") {
            self.advance(2);
        } else if !self.at_end() {
            self.advance(1);
        }
        true
    }
}

pub(super) fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r')
}
