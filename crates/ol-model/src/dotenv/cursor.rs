//! A place in a text, which knows its line. Lines end in `\n`, `\r\n` or `\r`.

/// Where reading has come to.
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

    /// From 1.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// Passes over `bytes` bytes, which must end where a character does.
    pub(super) fn advance(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at(bytes);
        let newlines = passed.bytes().filter(|b| matches!(b, b'\n' | b'\r'));
        let pairs = passed.matches("\r\n").count();
        // A pair that is cut here is counted when its other half comes.
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

    /// Passes over `wanted` if it is next.
    pub(super) fn skip(&mut self, wanted: char) -> bool {
        let found = self.rest.starts_with(wanted);
        if found {
            self.advance(wanted.len_utf8());
        }
        found
    }

    /// Passes over white space within the line, and says whether there was any.
    pub(super) fn skip_blanks(&mut self) -> bool {
        let blanks = self.take_while(|c| c.is_whitespace() && !is_line_end(c));
        !blanks.is_empty()
    }

    /// Passes over blanks, a comment and the end of the line, and says so, or stays where it is
    /// because something else is next.
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
