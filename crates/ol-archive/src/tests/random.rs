//! Random archives: none causes a panic, writes outside ([`UnpackDir::extract`] checks that for each), or hangs.

use proptest::collection::vec;
use proptest::prelude::*;

use super::tar_builder::{TarBuilder, UnpackDir, gz, header, seal};
use crate::ExtractLimits;

fn limits() -> ExtractLimits {
    ExtractLimits {
        bytes: 1 << 20,
        entries: 50,
        depth: 8,
        ratio: 200,
    }
}

fn valid() -> TarBuilder {
    TarBuilder::new()
        .directory(b"./")
        .file(b"./f.py", &[b'x'; 700])
        .pax(&[(b"path", b"pkg/deep/name"), (b"size", b"3")])
        .file(b"x", b"abc")
        .member(b"././@LongLink", b'L', b"pkg/other\0")
        .file(b"y", b"def")
        .end()
}

/// Names that collide or lie within each other.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec!["a", "b", "..", ".", "", "canary"]);
    vec(part, 1..5).prop_map(|parts| parts.join("/").into_bytes())
}

fn kind() -> impl Strategy<Value = u8> {
    prop_oneof![
        4 => Just(b'0'), 3 => Just(b'5'), 1 => Just(b'L'), 1 => Just(b'x'),
        1 => prop::sample::select(b"\x001234567gKS".to_vec())
    ]
}

proptest! {
    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..2000)) {
        let _ = UnpackDir::new().extract(&bytes, &limits());
        let _ = UnpackDir::new().extract(&gz(&bytes), &limits());
    }

    #[test]
    fn a_mutated_gzip_stream(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bundle = valid().gz();
        let at = at.index(bundle.len());
        bundle[at] = to;
        let _ = UnpackDir::new().extract(&bundle, &limits());
    }

    /// Checksums are corrected after each mutation, or nearly all mutants would be refused for their checksum.
    #[test]
    fn a_mutated_archive(changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut tar = valid().0;
        for (at, to) in changes {
            let at = at.index(tar.len());
            tar[at] = to;
        }
        for block in tar.chunks_exact_mut(512) {
            if block[257..262] == *b"ustar" {
                let header: &mut [u8; 512] = block.try_into().expect("a whole block");
                seal(header);
            }
        }
        let _ = UnpackDir::new().extract(&gz(&tar), &limits());
    }

    /// Compares the result with a model, for archives whose members alone determine the result.
    #[test]
    fn any_sequence_of_members(members in vec((name(), kind(), vec(any::<u8>(), 0..20)), 0..8)) {
        let forge = members.iter().fold(TarBuilder::new(), |forge, (name, kind, contents)| {
            forge.raw(header(name, *kind, contents.len() as u64), contents)
        });
        let outcome = UnpackDir::new().extract(&forge.end().gz(), &limits());
        let odd = members.iter().any(|(_, kind, _)| b"123467S".contains(kind));
        prop_assert!(!(odd && outcome.is_ok()));
        // A member's name is the one in its own header, unless an extension header before it gives another.
        let plain = members.iter().all(|(_, kind, _)| matches!(kind, 0 | b'0' | b'5'));
        let leads_out = members.iter().any(|(name, _, _)| {
            name.starts_with(b"/") || name.split(|&byte| byte == b'/').any(|part| part == b"..")
        });
        prop_assert!(!(plain && leads_out && outcome.is_ok()));
    }
}
