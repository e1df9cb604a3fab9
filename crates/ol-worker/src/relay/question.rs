//! Recognises DNS messages (RFC 1035) that ask exactly one question, and their answers. Pure.

/// The longest UDP message that is forwarded, in bytes; longer answers come by TCP.
pub(super) const LONGEST: usize = 4096;

const HEADER: usize = 12;

/// The types of question that ask for a whole zone: IXFR and AXFR.
const TRANSFERS: [u16; 2] = [251, 252];

/// Whether a message is one plain question.
pub(super) fn is_question(message: &[u8]) -> bool {
    let Some(header) = message.first_chunk::<HEADER>() else {
        return false;
    };
    // A standard query with one question and no answers.
    let plain =
        header[2] & 0b1111_1000 == 0 && header[4..8] == [0, 1, 0, 0] && header[8..10] == [0, 0];
    plain && kind(message).is_some_and(|kind| !TRANSFERS.contains(&kind))
}

/// The record type that the question of `message` asks for; `None` if its name is malformed.
fn kind(message: &[u8]) -> Option<u16> {
    let mut rest = message.get(HEADER..)?;
    let mut length = 0;
    loop {
        let label = usize::from(*rest.first()?);
        length += label + 1;
        // Labels over 63 are compression pointers, which a question doesn't need.
        if label > 63 || length > 255 {
            return None;
        }
        rest = rest.get(1 + label..)?;
        if label == 0 {
            break;
        }
    }
    rest.get(2..4)?;
    rest.first_chunk().map(|kind| u16::from_be_bytes(*kind))
}

/// The message number (DNS's ID).
pub(super) fn number(message: &[u8]) -> Option<[u8; 2]> {
    message.first_chunk().copied()
}

/// Changes the message number.
pub(super) fn renumber(message: &mut [u8], number: [u8; 2]) {
    if let Some(place) = message.first_chunk_mut() {
        *place = number;
    }
}

/// Whether `message` is an answer to the question with this number.
pub(super) fn answers(message: &[u8], number: [u8; 2]) -> bool {
    message.len() >= HEADER && message.starts_with(&number) && message[2] & 0x80 != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A question for the address of `name`.
    fn ask(name: &str, number: u16, kind: u16) -> Vec<u8> {
        let mut message = number.to_be_bytes().to_vec();
        message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in name.split('.') {
            message.push(u8::try_from(label.len()).expect("short"));
            message.extend(label.bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    #[test]
    fn one_plain_question_passes_and_nothing_else() {
        let good = ask("example.org", 7, 1);
        assert!(is_question(&good));
        let with = |at: usize, byte: u8| {
            let mut bad = good.clone();
            bad[at] = byte;
            bad
        };
        for (why, bad) in [
            ("an answer", with(2, 0x81)),
            ("an update", with(2, 0x28)),
            ("two questions", with(5, 2)),
            ("an answer in it", with(7, 1)),
            ("a pointer as a name", with(12, 0xc0)),
            ("a zone", ask("example.org", 7, 252)),
            ("cut short", good[..good.len() - 1].to_vec()),
            (
                "no DNS at all",
                b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            ),
            ("nothing", Vec::new()),
        ] {
            assert!(!is_question(&bad), "{why}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = (is_question(&bytes), answers(&bytes, [0, 1]), number(&bytes));
        }
    }
}
