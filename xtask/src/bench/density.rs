//! `cargo xtask bench density`: the cost of sandboxes that only wait (targets 7, 8).
//!
//! ```text
//! in each round, a new worker:
//!     10 functions, called once, paused      → weigh it
//!     200 more                               → weigh it again: the weight of one more (8)
//! and another worker:
//!     10 functions, called once, paused      → sandboxes made and destroyed per second
//!     more, up to 1,000                      → sandboxes made and destroyed per second (7)
//! ```
//!
//! The rate with 1,000 is compared with the rate with 10 in the same worker and round. There is no floor for the weight. It is measured in
//! two ways, as neither covers everything: the proportional set size doesn't include what the kernel keeps for a process, a namespace or a
//! cgroup; the machine's available memory includes all of that, but also changes by other programs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::child::Server;
use super::churn::{Driver as _, FreshForEachCall};
use super::fleet::{self, Function, Work};
use super::floor_create::Place;
use super::process_tree::{self, Neighbours};
use super::session::{Common, Session, progress};
use super::summary::{Goal, quantile};
use super::timing::Ways;
use super::{interrupt, worker};

/// How many sandboxes are paused at first.
const FEW: usize = 10;
/// How many more are added to weigh them.
const WEIGHED: usize = 200;
/// Clients that make the calls.
const CLIENTS: usize = 2;
/// How long it may take until all of many sandboxes are paused.
const PAUSE_LIMIT: Duration = Duration::from_secs(10);

/// The machine's memory counts as stable when it changes by less than this in a second (a hundredth of what the sandboxes between two
/// weighings may take); and how long to wait for that.
const STILL_MIB: f64 = 4.0;
const STILL_LIMIT: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Length of one timed stretch, in seconds
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Paused sandboxes of the full worker; at least 300
    #[arg(long, default_value_t = 1000)]
    many: usize,
}

/// A worker, and the functions that weren't called on it yet.
struct Filling<'a> {
    server: &'a Server,
    rest: &'a [Function],
    alive: usize,
    ways: &'a mut Ways,
}

/// MiB for one more sandbox: in the worker's processes, and in the machine's available memory.
struct One {
    pss: f64,
    lost: f64,
}

/// MiB of the whole worker's processes, and of the machine's available memory.
struct Weight {
    pss: f64,
    available: f64,
}

/// Runs the benchmark. Fails only when something can't run or an answer is wrong.
pub(super) fn run(args: &Args) -> Result<()> {
    ensure!(
        args.many >= 300 && args.seconds > 0.0,
        "--many must be at least 300 and --seconds above zero"
    );
    let mut session = Session::begin("density", &args.common)?;
    let directory = session.roomy("", &[])?;
    let functions = Function::several("dense", args.many, Work::Nothing);
    let neighbours = Neighbours::now()?;
    let place = Place::make()?;
    let (mut few, mut many) = (Vec::new(), Vec::new());
    let (mut floor_few, mut floor_many) = (Vec::new(), Vec::new());
    let (mut pss, mut lost) = (Vec::new(), Vec::new());
    let mut ways = Ways::default();
    for round in 0..args.common.rounds {
        progress(&format!("round {} of {}", round + 1, args.common.rounds));
        let server = directory.up()?;
        if round == 0 {
            progress(&format!("uploading {} functions", functions.len()));
            fleet::upload(&server, &functions)?;
        }
        let one = weight_of_one(&mut Filling::of(&server, &functions, &mut ways))?;
        ensure_room(&one, args.many)?;
        pss.push(one.pss);
        lost.push(one.lost);
        directory.down(server)?;
        let server = directory.up()?;
        let filling = Filling::of(&server, &functions, &mut ways);
        let stretch = Duration::from_secs_f64(args.seconds);
        let (with_few, with_many) = rates(filling, &place, stretch, args.many)?;
        few.push(with_few.ours);
        many.push(with_many.ours);
        floor_few.push(with_few.floor);
        floor_many.push(with_many.floor);
        directory.down(server)?;
    }
    session.note(neighbours.note()?);
    session.note(format!("ways of the calls that filled it: {}", ways.text()));
    session.note(
        "every answer right; all sandboxes were counted as Python processes, alive and paused",
    );
    let report = &mut session.report;
    let what = format!(
        "sandboxes/s with {} paused alive; beside it, with {FEW}",
        args.many
    );
    report.row(7, what, "1/s", &many, &few, Goal::TimesAtLeast(0.9));
    let what = format!(
        "floor-create/s with {} paused alive; beside it, with {FEW}",
        args.many
    );
    report.row(7, what, "1/s", &floor_many, &floor_few, Goal::Informs);
    let what = "one more paused sandbox that served a call";
    report.row(8, what, "MiB PSS", &pss, &[], Goal::AtMost(1.5));
    let what = format!("memory the machine has less by each of {WEIGHED} more");
    report.row(8, what, "MiB", &lost, &[], Goal::AtMost(2.0));
    session.end()
}

/// What each of [`WEIGHED`] more sandboxes adds to a worker with [`FEW`].
fn weight_of_one(filling: &mut Filling<'_>) -> Result<One> {
    filling.add(FEW)?;
    let before = weigh(filling.server)?;
    filling.add(WEIGHED)?;
    let after = weigh(filling.server)?;
    Ok(One {
        pss: (after.pss - before.pss) / WEIGHED as f64,
        lost: (before.available - after.available) / WEIGHED as f64,
    })
}

/// Sandboxes made per second, by the worker and by floor-create.
struct Rates {
    ours: f64,
    floor: f64,
}

/// The rates with [`FEW`] paused sandboxes, and with `many`.
fn rates(
    mut filling: Filling<'_>,
    place: &Place,
    stretch: Duration,
    many: usize,
) -> Result<(Rates, Rates)> {
    let server = filling.server;
    let churn = FreshForEachCall::install(server)?;
    let rate = || {
        churn.run(server, CLIENTS, stretch / 4, None)?;
        let calls = churn.run(server, CLIENTS, stretch, None)?;
        anyhow::Ok(Rates {
            ours: calls.rate(),
            floor: place.rate(CLIENTS, stretch)?,
        })
    };
    filling.add(FEW)?;
    let few_rate = rate()?;
    progress(&format!("{} more", many - FEW));
    filling.add(many - FEW)?;
    Ok((few_rate, rate()?))
}

/// Fails if the sandboxes would use up the machine's memory.
fn ensure_room(one: &One, many: usize) -> Result<()> {
    let (needed, there) = (one.pss.max(one.lost) * many as f64, available_mib()?);
    ensure!(
        needed < there * 0.8,
        "{many} sandboxes would take {needed:.0} of the {there:.0} MiB that are available: lower --many"
    );
    Ok(())
}

impl<'a> Filling<'a> {
    fn of(server: &'a Server, functions: &'a [Function], ways: &'a mut Ways) -> Self {
        Self {
            server,
            rest: functions,
            alive: 0,
            ways,
        }
    }

    /// Calls `count` more functions once, and waits until their sandboxes are paused.
    fn add(&mut self, count: usize) -> Result<()> {
        let (these, rest) = self.rest.split_at(count);
        let paused = || worker::pauses(self.server);
        let before = paused()?;
        let calls = fleet::call_each(self.server, these, CLIENTS)?;
        self.ways.merge(calls.ways);
        self.rest = rest;
        self.alive += count;
        let asked = Instant::now();
        // If the worker doesn't count its pauses, wait for the time in which it should have paused.
        while asked.elapsed() < Duration::from_secs(1)
            || paused()?
                .zip(before)
                .is_some_and(|(now, before)| now < before + count as u64)
        {
            interrupt::check()?;
            ensure!(
                asked.elapsed() < PAUSE_LIMIT,
                "not all of {count} idle sandboxes were paused within {PAUSE_LIMIT:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let found = self.server.tree()?.pythons().len();
        ensure!(
            found >= self.alive,
            "{} sandboxes should be alive, {found} are",
            self.alive
        );
        Ok(())
    }
}

/// Weighs both once the machine's memory is stable.
///
/// What a destroyed sandbox consisted of (namespaces, cgroups) goes back to the kernel seconds after its end, and would make the next
/// sandboxes look lighter.
fn weigh(server: &Server) -> Result<Weight> {
    let began = Instant::now();
    let available = loop {
        let mut looks = Vec::new();
        for _ in 0..20 {
            interrupt::check()?;
            std::thread::sleep(Duration::from_millis(100));
            looks.push(available_mib()?);
        }
        let drift = quantile(&looks[10..], 500) - quantile(&looks[..10], 500);
        if drift.abs() < STILL_MIB || began.elapsed() > STILL_LIMIT {
            break quantile(&looks, 500);
        }
    };
    let tree = server.tree()?;
    let pids: Vec<u32> = tree.members.iter().map(|process| process.pid).collect();
    Ok(Weight {
        pss: process_tree::pss_mib(&pids)?,
        available,
    })
}

fn available_mib() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("failed to read /proc/meminfo")?;
    let kib = text.lines().find_map(|line| {
        let rest = line.strip_prefix("MemAvailable:")?;
        rest.trim().strip_suffix(" kB")?.parse::<f64>().ok()
    });
    Ok(kib.context("no MemAvailable in /proc/meminfo")? / 1024.0)
}
