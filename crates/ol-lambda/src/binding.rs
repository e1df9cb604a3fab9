//! What tells a guest which function it becomes.

use crate::guest::frame::{CHUNK, Outgoing};
use crate::guest::{Channel, FrameKind};
use crate::package_set::PackageSet;
use crate::version::Version;
use ol_model::FunctionName;
use ol_sandbox::LONGEST_OPENING;

/// What a guest is bound to.
pub(crate) struct Binding<'a> {
    pub version: &'a Version,
    pub name: &'a str,
    pub site_packages: bool,
    /// What to add to the module search path, as paths inside the sandbox.
    pub path: &'a [String],
}

/// The frames that bind a guest.
pub(crate) struct Message<'a> {
    head: String,
    code: &'a [u8],
    compiled: bool,
}

impl<'a> Binding<'a> {
    /// Binds to `version` of the function `name`; with `site_packages`, the function sees the base image's packages too.
    pub(crate) fn of(name: &'a FunctionName, site_packages: bool, version: &'a Version) -> Self {
        Self {
            version,
            name: name.as_str(),
            site_packages,
            path: version.packages.get().map_or(&[], PackageSet::path),
        }
    }

    /// The message for a guest whose Python accepts compiled code of kind `magic`: that code if a guest has compiled it, else `source`.
    pub(crate) fn message(&self, source: &'a [u8], magic: &str) -> Message<'a> {
        let version = self.version;
        // One slow call must not delay others on the connection, nor may printed lines be taken for another call's.
        let shared = version.config.concurrency > 1;
        let head = serde_json::json!({
            "entry": version.entry,
            "environment": version.config.environment.clone().unwrap_or_default(),
            "name": self.name,
            "path": self.path,
            "site_packages": self.site_packages,
            "window": if shared { CHUNK } else { 0 },
            "tag": shared,
        })
        .to_string();
        let compiled = version.compiled.get().filter(|c| c.magic == magic);
        Message {
            head,
            code: compiled.map_or(source, |c| &c.code),
            compiled: compiled.is_some(),
        }
    }
}

impl Message<'_> {
    fn length(&self) -> [u8; 4] {
        u32::try_from(self.head.len())
            .expect("ol.yaml, which it is made of, is bounded at 256 KiB")
            .to_le_bytes()
    }

    /// A frame with the head and with `code`; `length` is the head's, as the frame has it.
    fn frame<'a>(&'a self, length: &'a [u8; 4], code: &'a [u8]) -> Outgoing<'a> {
        Outgoing::new(FrameKind::Bind, 0)
            .with_payload([length, self.head.as_bytes(), code])
            .compiled(self.compiled)
    }

    /// The message as one frame, to be given to a guest before it runs; empty if it is too long for one frame.
    pub(crate) fn opening(&self) -> Vec<u8> {
        let length = self.length();
        let frame = self.frame(&length, self.code);
        if frame.len() > LONGEST_OPENING {
            return Vec::new();
        }
        frame.bytes()
    }

    /// Sends the message over the connection of a running guest.
    pub(crate) async fn send(&self, channel: &Channel) {
        let (first, rest) = self.code.split_at(self.code.len().min(CHUNK));
        let length = self.length();
        let frame = self.frame(&length, first).followed(!rest.is_empty());
        // If the guest is gone, that is noticed, with the reason, when its answer is awaited.
        let _ = channel.send(frame).await;
        let mut left = rest.chunks(CHUNK).peekable();
        while let Some(chunk) = left.next() {
            let body = Outgoing::new(FrameKind::Body, 0).with_payload([chunk]);
            let _ = channel.send(body.followed(left.peek().is_some())).await;
        }
    }
}
