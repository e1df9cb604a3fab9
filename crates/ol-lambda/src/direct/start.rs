//! Makes a sandbox from an order.

use super::code;
use super::entry::{Bound, Entry};
use super::packages::{self, Packages};
use super::{Direct, DirectError, Order, PATIENCE};
use crate::binding::Binding;
use crate::instances::refused;
use crate::invoke::InvokeError;
use crate::starting::{Start, create_unlogged};
use crate::version::Version;
use crate::zygote::{Recipe, SpawnError, Zygote};
use ol_model::OomScope;
use ol_sandbox::{Content, CreateError, Network, Parent, Role, SandboxSpec};
use std::sync::Arc;

impl Direct {
    pub(super) async fn start(
        &self,
        order: Order,
        parent: Option<Arc<Entry>>,
    ) -> Result<Entry, DirectError> {
        let parent = match parent {
            Some(zygote) => zygote.as_parent()?,
            None => Parent::Root,
        };
        let (settings, store) = (self.settings.clone(), self.packages.clone());
        let (names, path) = (order.pkgs.clone(), order.code.clone());
        let looking = tokio::task::spawn_blocking(move || {
            let packages = packages::look_up(&store, &names)?;
            let version = if path.is_empty() {
                None
            } else {
                Some(code::prepare(&settings, &path)?)
            };
            Ok::<_, DirectError>((packages, version))
        });
        let (packages, version) = looking
            .await
            .map_err(|_| InvokeError::Internal("code can't be unpacked"))??;
        if order.leaf {
            self.leaf(parent, &packages, version).await
        } else {
            self.zygote(parent, packages).await
        }
    }

    async fn zygote(&self, parent: Parent, packages: Packages) -> Result<Entry, DirectError> {
        if !self.pool.abilities().fork {
            let why = "this worker's sandboxes can't fork: make leaves without a parent";
            return Err(DirectError::bad(why));
        }
        // Leaves' shells are made on demand: experimenters count what there is.
        let shells = 0;
        let recipe = Recipe {
            parent,
            limits: self.settings.default_limits.clone(),
            most: self.settings.default_limits.mem,
            shells,
            packages: ol_sandbox::Packages::All,
            path: packages.path,
            imports: packages.modules,
        };
        let limits = recipe.limits.clone();
        let zygote = Zygote::spawn(&*self.pool, recipe).await;
        let (sandbox, channel) = zygote.map_err(not_spawned)?.into_parts();
        Ok(Entry::new(
            Role::Zygote { shells },
            sandbox,
            channel,
            limits,
            None,
        ))
    }

    async fn leaf(
        &self,
        parent: Parent,
        packages: &Packages,
        version: Option<Version>,
    ) -> Result<Entry, DirectError> {
        let limits = version
            .as_ref()
            .map_or(&self.settings.default_limits, |version| &version.limits)
            .clone();
        let network = version
            .as_ref()
            .map_or(Network::None, |version| version.network);
        if network == Network::Host && !matches!(parent, Parent::Root) {
            let why = "what is forked can't have the host's network: leave its parent out";
            return Err(DirectError::bad(why));
        }
        let spec = SandboxSpec {
            parent,
            role: Role::Leaf,
            content: Content {
                limits: limits.clone(),
                oom: version
                    .as_ref()
                    .map_or(OomScope::Process, |version| version.config.oom),
                code: version.as_ref().map(|version| version.code.clone()),
                // The operator makes every sandbox here, so each may see all packages; and a fork must find those that its zygote imported.
                packages: ol_sandbox::Packages::All,
                patience: PATIENCE,
                network,
            },
            opening: Vec::new(),
        };
        let created = create_unlogged(&*self.pool, spec).await;
        let (sandbox, channel) = created.map_err(not_created)?;
        let start = Start {
            channel: &channel,
            obituary: sandbox.obituary(),
            limits: &limits,
        };
        let mut about_itself = channel.about_itself();
        let magic = start.greeting(&mut about_itself).await?;
        let mut bound = None;
        if let Some(version) = version {
            // Code without an entry file is only looked at from inside; it can't be called.
            let about = match version.source.clone() {
                Err(_) => None,
                Ok(source) => {
                    let binding = Binding {
                        version: &version,
                        name: "sandbox",
                        site_packages: self.settings.site_packages,
                        path: &packages.path,
                    };
                    binding.message(&source, &magic).send(&channel).await;
                    Some(start.bound(&mut about_itself, magic, &version).await?)
                }
            };
            bound = Some(Bound {
                _version: version,
                about,
            });
        }
        channel.close(about_itself);
        Ok(Entry::new(Role::Leaf, sandbox, channel, limits, bound))
    }
}

fn not_spawned(error: SpawnError) -> DirectError {
    match error {
        SpawnError::Create(error) => not_created(error),
        other => InvokeError::CannotStart(format!("the zygote could not be made: {other}")).into(),
    }
}

/// Reports in full why the pool couldn't make the sandbox: here the client is the operator.
fn not_created(error: CreateError) -> DirectError {
    match error {
        CreateError::Mechanism(reason) | CreateError::Fork(reason) => {
            DirectError::Conflict(format!("the sandbox could not be made: {reason}"))
        }
        other => refused(&other).into(),
    }
}
