//! Makes a zygote: a sandbox that is told what to import and then to fork.

use crate::guest::frame::{Outgoing, sections};
use crate::guest::{Channel, ChannelError, FrameKind};
use crate::starting::{Greeting, create_unlogged};
use ol_model::{Limits, MiB, OomScope};
use ol_sandbox::{
    Content, CreateError, Network, Obituary, Packages, Parent, Pool, Role, Running, SandboxSpec,
};
use std::time::Duration;

/// How long a zygote may take to greet, and again to import its modules.
const IMPORTS: Duration = Duration::from_secs(60);

/// How long to wait for a zygote's memory.
const PATIENCE: Duration = Duration::from_secs(1);

/// How much memory a zygote may need beyond what it uses after its imports: each fork makes it copy some pages.
const ROOM: MiB = MiB(8);

/// A zygote that can fork.
pub(crate) struct Zygote {
    sandbox: Running,
    /// Held open: a guest ends when its connection ends.
    channel: Channel,
    /// Which kind of compiled code its Python, and thus that of its children, accepts.
    magic: String,
}

/// What a zygote is made from.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub parent: Parent,
    pub limits: Limits,
    /// The memory that it may use once it has children.
    pub most: MiB,
    /// Shells to keep ready for its leaves.
    pub shells: u16,
    /// What the zygote sees of the package store.
    pub packages: Packages,
    /// What to add to the module search path, as paths inside the sandbox.
    pub path: Vec<String>,
    /// Modules to import.
    pub imports: Vec<String>,
}

/// Why there is no zygote.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error("{0}")]
    Guest(#[from] ChannelError),
    #[error("it said something else than a zygote should")]
    Nonsense,
    #[error("it could not import: {0}")]
    Import(String),
    #[error("it took longer than {IMPORTS:?}")]
    Slow,
}

impl Zygote {
    /// Makes a zygote.
    pub(crate) async fn spawn(pool: &dyn Pool, recipe: Recipe) -> Result<Self, SpawnError> {
        let spec = SandboxSpec {
            parent: recipe.parent,
            role: Role::Zygote {
                shells: recipe.shells,
            },
            content: Content {
                limits: recipe.limits,
                oom: OomScope::Process,
                code: None,
                packages: recipe.packages,
                patience: PATIENCE,
                network: Network::None,
            },
            opening: Vec::new(),
        };
        let (sandbox, channel) = create_unlogged(pool, spec).await?;
        let head = serde_json::json!({"path": recipe.path, "imports": recipe.imports});
        let introduce = async {
            let mut conversation = channel.about_itself();
            let ready = channel.next(&mut conversation).await?;
            let greeting = Greeting::of(&ready).ok_or(SpawnError::Nonsense)?;
            let head = head.to_string();
            let length = u32::try_from(head.len())
                .map_err(|_| SpawnError::Nonsense)?
                .to_le_bytes();
            let frame =
                Outgoing::new(FrameKind::Zygote, 0).with_payload([&length, head.as_bytes()]);
            channel.send(frame).await?;
            let bound = channel.next(&mut conversation).await?;
            match bound.kind {
                FrameKind::Bound => sections(bound.payload)
                    .map(|_| greeting.magic)
                    .map_err(|_| SpawnError::Nonsense),
                FrameKind::BindFailed => Err(SpawnError::Import(
                    String::from_utf8_lossy(&bound.payload).into_owned(),
                )),
                _ => Err(SpawnError::Nonsense),
            }
        };
        let magic = tokio::time::timeout(IMPORTS, introduce)
            .await
            .unwrap_or(Err(SpawnError::Slow))?;
        pool.give_back(&sandbox.allotment(), ROOM, recipe.most)
            .await;
        Ok(Self {
            sandbox,
            channel,
            magic,
        })
    }

    /// Its sandbox, and the connection, which has to be held open.
    pub(crate) fn into_parts(self) -> (Running, Channel) {
        (self.sandbox, self.channel)
    }

    /// The zygote as the parent of other sandboxes.
    pub(crate) fn as_parent(&self) -> Parent {
        self.sandbox.as_parent()
    }

    /// Which kind of compiled code its children accept.
    pub(crate) fn magic(&self) -> &str {
        &self.magic
    }

    /// The number of its sandbox.
    pub(crate) fn id(&self) -> u64 {
        self.sandbox.id().0
    }

    /// Where the zygote's death will be reported.
    pub(crate) fn obituary(&self) -> Obituary {
        self.sandbox.obituary()
    }

    /// For people: what the zygote is.
    pub(crate) fn describe(&self) -> String {
        format!(
            "zygote in sandbox {}: {}",
            self.sandbox.id().0,
            self.sandbox.process()
        )
    }
}
