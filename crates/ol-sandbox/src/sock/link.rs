//! The one task that speaks with the warden. It owns the table of sandboxes and of the callers that wait for one.
//!
//! Any number of [`Link`]s send [`Order`]s to the task by a channel. The channel is unbounded because each order belongs to a sandbox,
//! and the budget bounds the number of sandboxes, and because a drop must never wait. The task ends when every link is dropped; it
//! also ends when the socket ends (the warden died): then every waiting creation fails, and `Pool::gone` resolves.

use crate::budget::Hold;
use crate::lifecycle::Death;
use crate::line::{Got, Line};
use crate::pool::CreateError;
use crate::sock::freezer::Freezer;
use crate::sock::wire;
use ol_warden::protocol::{
    self, Content, Egress, Event, FreezerKind, Request, SandboxId, Size, Spec,
};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// `ETOOMANYREFS` of sendmsg(2).
const TOO_MANY_REFERENCES: i32 = rustix::io::Errno::TOOMANYREFS.raw_os_error();

/// A sandbox that the warden has made.
#[derive(Debug)]
pub(crate) struct Made {
    pub pid: i32,
    pub freezer: Freezer,
    /// With `Network::Gate`: a socket that listens inside the sandbox.
    pub gate: Option<OwnedFd>,
}

/// What the warden has said of networks: whether there is egress, and the sockets that it sent for it.
pub(crate) type Networks = Arc<Mutex<Option<(Egress, Vec<OwnedFd>)>>>;

enum Order {
    Create {
        id: SandboxId,
        spec: Spec,
        fds: Vec<OwnedFd>,
        entry: Entry,
    },
    Assign {
        id: SandboxId,
        content: Content,
        done: oneshot::Sender<Option<String>>,
    },
    Resize {
        id: SandboxId,
        memory: Size,
        done: oneshot::Sender<u64>,
    },
    Destroy(SandboxId),
    /// Answered when no sandbox is left whose destruction was asked for.
    Drained(oneshot::Sender<()>),
}

/// One sandbox in the table, from the request to make it until the warden says that nothing is left of it.
struct Entry {
    made: Option<oneshot::Sender<Result<Made, CreateError>>>,
    assigned: Option<oneshot::Sender<Option<String>>>,
    /// In the order of the requests; the warden answers in the same order.
    resized: VecDeque<oneshot::Sender<u64>>,
    death: watch::Sender<Option<Death>>,
    ending: bool,
    _memory: Memory,
}

/// The memory that stays reserved while a sandbox exists: its own, and its zygote's, whose pages it shares.
pub(crate) struct Memory {
    pub _own: Hold,
    pub _shared: Option<Hold>,
}

/// What is known of the warden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Warden {
    /// The warden hasn't sent anything yet.
    Starting,
    /// The warden can make sandboxes.
    Ready,
    /// The warden is gone, and with it every sandbox.
    Gone,
}

/// A handle to the task.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    orders: mpsc::UnboundedSender<Order>,
    networks: Networks,
}

impl Link {
    /// Starts the task on the worker's end of the socket. The second value tells the warden's state.
    pub(crate) fn start(socket: OwnedFd) -> io::Result<(Self, watch::Receiver<Warden>)> {
        rustix::fs::fcntl_setfl(&socket, rustix::fs::OFlags::NONBLOCK)?;
        let socket = Line::new(socket)?;
        let (orders, inbox) = mpsc::unbounded_channel();
        let (warden, watched) = watch::channel(Warden::Starting);
        let task = Task {
            socket,
            table: HashMap::new(),
            draining: Vec::new(),
            warden,
            networks: Networks::default(),
        };
        let networks = Arc::clone(&task.networks);
        tokio::spawn(task.run_to_end(inbox));
        let link = Self { orders, networks };
        Ok((link, watched))
    }

    /// What the warden said of egress when it became ready; `None` before that, and after the first call that got it.
    pub(crate) fn take_networks(&self) -> Option<(Egress, Vec<OwnedFd>)> {
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        networks.take()
    }

    /// Asks for a sandbox. `fds` are its ends of the guest socket and the output pipe.
    pub(crate) async fn create(
        &self,
        id: SandboxId,
        spec: Spec,
        fds: Vec<OwnedFd>,
        memory: Memory,
    ) -> Result<(Made, watch::Receiver<Option<Death>>), CreateError> {
        let (made, answer) = oneshot::channel();
        let (death, obituary) = watch::channel(None);
        let entry = Entry {
            made: Some(made),
            assigned: None,
            resized: VecDeque::new(),
            death,
            ending: false,
            _memory: memory,
        };
        self.orders
            .send(Order::Create {
                id,
                spec,
                fds,
                entry,
            })
            .map_err(|_| CreateError::Gone)?;
        // If this future is dropped while it waits, nobody owns the sandbox: the guard destroys it.
        let guard = Abandoned {
            link: self,
            id,
            armed: true,
        };
        let made = answer.await.map_err(|_| CreateError::Gone)?;
        if made.is_ok() {
            guard.disarm();
        }
        made.map(|made| (made, obituary))
    }

    /// Gives a leaf its content; returns the warden's reason if it refused.
    pub(crate) async fn assign(
        &self,
        id: SandboxId,
        content: Content,
    ) -> Result<Option<String>, CreateError> {
        let (done, answer) = oneshot::channel();
        let order = Order::Assign { id, content, done };
        self.orders.send(order).map_err(|_| CreateError::Gone)?;
        answer.await.map_err(|_| CreateError::Gone)
    }

    /// Sets a sandbox's memory limit; returns the limit afterwards in bytes, or `None` if the sandbox is gone.
    pub(crate) async fn resize(&self, id: SandboxId, memory: Size) -> Option<u64> {
        let (done, answer) = oneshot::channel();
        self.orders.send(Order::Resize { id, memory, done }).ok()?;
        answer.await.ok().filter(|memory| *memory > 0)
    }

    /// Asks the warden to destroy a sandbox; does not wait.
    pub(crate) fn destroy(&self, id: SandboxId) {
        // If the task is gone, so is the warden, and with it every sandbox.
        let _ = self.orders.send(Order::Destroy(id));
    }

    pub(crate) async fn drained(&self) {
        let (done, wait) = oneshot::channel();
        if self.orders.send(Order::Drained(done)).is_ok() {
            // An error means that the warden is gone, and with it every sandbox.
            let _ = wait.await;
        }
    }
}

struct Abandoned<'a> {
    link: &'a Link,
    id: SandboxId,
    armed: bool,
}

impl Abandoned<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.link.destroy(self.id);
        }
    }
}

struct Task {
    socket: Line,
    table: HashMap<SandboxId, Entry>,
    draining: Vec<oneshot::Sender<()>>,
    warden: watch::Sender<Warden>,
    networks: Networks,
}

impl Task {
    async fn run_to_end(mut self, inbox: mpsc::UnboundedReceiver<Order>) {
        if let Err(error) = self.run(inbox).await {
            tracing::debug!("the connection to the warden ended: {error}");
        }
        self.warden.send_replace(Warden::Gone);
    }

    async fn run(&mut self, mut inbox: mpsc::UnboundedReceiver<Order>) -> io::Result<()> {
        loop {
            tokio::select! {
                order = inbox.recv() => match order {
                    Some(order) => self.obey(order).await?,
                    None => return Ok(()),
                },
                event = self.socket.read(|socket| protocol::receive(socket).map(Got::More)) => match event? {
                    Some((event, fds)) => self.hear(event, fds)?,
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
        }
    }

    async fn obey(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Create {
                id,
                spec,
                fds,
                entry,
            } => {
                self.table.insert(id, entry);
                self.send(&Request::Create { id, spec }, &fds).await
            }
            Order::Assign { id, content, done } => {
                let Some(entry) = self.table.get_mut(&id) else {
                    return Ok(());
                };
                entry.assigned = Some(done);
                self.send(&Request::Assign { id, content }, &[]).await
            }
            Order::Resize { id, memory, done } => {
                let Some(entry) = self.table.get_mut(&id) else {
                    return Ok(());
                };
                entry.resized.push_back(done);
                self.send(&Request::Resize { id, memory }, &[]).await
            }
            Order::Destroy(id) => match self.table.get_mut(&id) {
                Some(entry) if !entry.ending => {
                    entry.ending = true;
                    self.send(&Request::Destroy { id }, &[]).await
                }
                _ => Ok(()),
            },
            Order::Drained(done) => {
                self.draining.push(done);
                self.tell_drained();
                Ok(())
            }
        }
    }

    async fn send(&self, request: &Request, fds: &[OwnedFd]) -> io::Result<()> {
        let fds = protocol::borrowed(fds);
        loop {
            let send = |socket: BorrowedFd<'_>| protocol::send(socket, request, &fds);
            match self.socket.write(send).await {
                // The kernel limits the descriptors in flight of all root's processes together; earlier ones will arrive and make room.
                Err(error) if error.raw_os_error() == Some(TOO_MANY_REFERENCES) => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                result => return result,
            }
        }
    }

    fn hear(&mut self, event: Event, fds: Vec<OwnedFd>) -> io::Result<()> {
        match event {
            Event::Ready { version, egress } => {
                if version != protocol::VERSION {
                    let ours = protocol::VERSION;
                    tracing::error!(
                        "the warden speaks version {version} of their protocol, this worker version {ours}: start both from the same `ol`"
                    );
                    return Err(io::Error::other("it speaks another protocol"));
                }
                let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
                *networks = Some((egress, fds));
                drop(networks);
                self.warden.send_replace(Warden::Ready);
            }
            Event::Created { id, pid, freezer } => {
                let Some(entry) = self.table.get_mut(&id) else {
                    return Ok(());
                };
                let made = made(pid, freezer, fds);
                // If the owner stopped waiting, its guard (`Abandoned`) has asked for the sandbox's destruction.
                let _ = entry.made.take().map(|owner| owner.send(made));
            }
            Event::Refused {
                id,
                reason,
                by_parent,
            } => {
                if let Some(owner) = self
                    .table
                    .remove(&id)
                    .and_then(|mut entry| entry.made.take())
                {
                    let error = if by_parent {
                        CreateError::Fork(reason)
                    } else {
                        CreateError::Mechanism(reason)
                    };
                    let _ = owner.send(Err(error));
                }
                self.tell_drained();
            }
            Event::Died {
                id,
                death,
                oom_kills,
            } => {
                if let ol_warden::protocol::Death::NotStarted(step) = &death {
                    tracing::error!("sandbox {} could not be started: {step}", id.0);
                }
                if let Some(entry) = self.table.get(&id) {
                    let death = Death {
                        cause: wire::cause(death),
                        oom_kills,
                    };
                    entry.death.send_replace(Some(death));
                }
            }
            Event::Assigned { id, refused } => {
                let entry = self.table.get_mut(&id);
                if let Some(done) = entry.and_then(|entry| entry.assigned.take()) {
                    let _ = done.send(refused);
                }
            }
            Event::Resized { id, memory } => {
                let entry = self.table.get_mut(&id);
                if let Some(done) = entry.and_then(|entry| entry.resized.pop_front()) {
                    let _ = done.send(memory);
                }
            }
            Event::Destroyed { id } => {
                self.table.remove(&id);
                self.tell_drained();
            }
        }
        Ok(())
    }

    fn tell_drained(&mut self) {
        if !self.table.values().any(|entry| entry.ending) {
            for done in self.draining.drain(..) {
                let _ = done.send(());
            }
        }
    }
}

/// A sandbox from the descriptors that came with [`Event::Created`]: the freezer's files, then a gate's socket if there is one.
fn made(pid: i32, kind: FreezerKind, fds: Vec<OwnedFd>) -> Result<Made, CreateError> {
    let mut files = fds.into_iter();
    let mut file = || {
        let missing = "the warden sent a sandbox without its freezer";
        files
            .next()
            .ok_or_else(|| CreateError::Mechanism(missing.to_owned()))
    };
    let freezer = match kind {
        FreezerKind::V2 => Freezer::V2 {
            freeze: file()?,
            events: file()?,
        },
        FreezerKind::V1 => Freezer::V1 { state: file()? },
    };
    let gate = files.next();
    Ok(Made { pid, freezer, gate })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::AsFd;

    /// A link, the warden's state as the link tells it, and the warden's end of the socket.
    fn link() -> (Link, watch::Receiver<Warden>, OwnedFd) {
        let kind = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let pair = socketpair(kind.0, kind.1, SocketFlags::CLOEXEC, None);
        let (worker, warden) = pair.expect("a pair");
        let (link, watched) = Link::start(worker).expect("started");
        (link, watched, warden)
    }

    fn ready(warden: &OwnedFd, version: u16) {
        let egress = protocol::Egress::Off;
        let said = protocol::send(warden.as_fd(), &Event::Ready { version, egress }, &[]);
        said.expect("sent");
    }

    async fn next(watched: &mut watch::Receiver<Warden>) -> Warden {
        let known = watched.wait_for(|warden| *warden != Warden::Starting).await;
        *known.expect("it says so before it ends")
    }

    #[tokio::test]
    async fn a_warden_of_another_version_is_none() {
        let (_link, mut watched, warden) = link();
        ready(&warden, protocol::VERSION + 1);
        assert_eq!(next(&mut watched).await, Warden::Gone);
    }

    #[tokio::test]
    async fn a_warden_is_ready_until_its_socket_ends() {
        let (_link, mut watched, warden) = link();
        ready(&warden, protocol::VERSION);
        assert_eq!(next(&mut watched).await, Warden::Ready);
        drop(warden);
        let gone = watched.wait_for(|warden| *warden == Warden::Gone).await;
        assert!(gone.is_ok());
    }
}
