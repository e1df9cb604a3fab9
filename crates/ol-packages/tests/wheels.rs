//! Wheels fetched outside a sandbox, from indexes that are down, slow, lying, or link to private hosts; and packed copies.

mod common;

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use common::mirror;
use ol_packages::index::{Client, Host, Index, Wanted};
use ol_packages::packed::Packed;
use ol_packages::pin::{PackageName, Pin, Sha256, Version};
use ol_packages::wheels::{Libc, Tags, WheelError, WheelLimits, Wheels};
use ol_testkit::index::Gate;
use ol_testkit::{Dist, Mischief, PackageIndex, wheel};
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(20);

fn tags() -> Tags {
    Tags {
        minor: 11,
        abi: "cp311".into(),
        machine: "x86_64".into(),
        libc: Some(Libc::Glibc(2, 36)),
    }
}

fn plain(name: &str) -> Dist {
    wheel(name, "1.0").file(&format!("{name}.py"), "").build()
}

fn pin(dist: &Dist) -> Pin {
    let name = PackageName::parse(&dist.project).expect("a name");
    let hash = Sha256::parse(&dist.sha256()).expect("a hash");
    Pin::new(name, Version::parse("1.0").expect("a version"), vec![hash])
}

fn fetch(index: &PackageIndex, dist: &Dist, within: Duration) -> Result<Vec<u8>, WheelError> {
    fetch_by(&mirror(&index.url()), dist, within)
}

fn fetch_by(index: &Index, dist: &Dist, within: Duration) -> Result<Vec<u8>, WheelError> {
    let place = TempDir::new().expect("made");
    let wheels = Wheels::open(place.path()).expect("opened");
    let client = Client::new(index);
    let limits = WheelLimits {
        within,
        bytes: 1 << 20,
        stop: Arc::default(),
    };
    let wheel = wheels.fetch(&pin(dist), &tags(), &client, &limits);
    let bytes = wheel.map(|wheel| {
        let folder = place.path().join(wheel.folder());
        let files = std::fs::read_dir(folder).expect("there");
        let files: Vec<_> = files.map(|file| file.expect("read").path()).collect();
        assert_eq!(files.len(), 1);
        std::fs::read(&files[0]).expect("readable")
    });
    let left = std::fs::read_dir(place.path()).expect("there").count();
    assert_eq!(left, 0, "a wheel that nobody holds is there still");
    bytes
}

#[test]
fn each_failure_has_its_code_and_leaves_nothing() {
    let index = PackageIndex::start();
    let good = plain("good");
    index.add(good.clone());
    assert_eq!(fetch(&index, &good, WITHIN).expect("fetched"), good.bytes);
    for (mischief, code, words) in [
        (Mischief::HangsUp, "index-unreachable", "can't be reached"),
        (Mischief::Status(503), "index-unreachable", "answered 503"),
        (Mischief::GarbagePage, "garbage-index", "not a page"),
        (Mischief::WrongHash, "hash-mismatch", "not one of those"),
        (Mischief::CutsFiles, "index-unreachable", "broke off after"),
    ] {
        index.misbehave("good", mischief.clone());
        let error = fetch(&index, &good, WITHIN).expect_err("it misbehaves");
        assert_eq!(error.code(), code, "{mischief:?}: {error}");
        assert!(error.to_string().contains(words), "{mischief:?}: {error}");
        index.behave("good");
    }
    // Two attempts fail; then the index is back.
    let asked = index.asked().len();
    index.misbehave("good", Mischief::HangsUp);
    std::thread::scope(|scope| {
        let fetched = scope.spawn(|| fetch(&index, &good, WITHIN));
        while index.asked().len() < asked + 2 {
            std::thread::yield_now();
        }
        index.behave("good");
        let fetched = fetched.join().expect("its asserts hold");
        assert_eq!(fetched.expect("it is back"), good.bytes);
    });
    // The page lists no hash, thus only the hash of the file itself is checked.
    index.misbehave("good", Mischief::NoHash);
    assert_eq!(
        fetch(&index, &good, WITHIN).expect("its hash is right"),
        good.bytes
    );
    let mut other = plain("good");
    other.bytes.push(0);
    let error = fetch(&index, &other, WITHIN).expect_err("other bytes");
    assert_eq!(error.code(), "hash-mismatch", "{error}");
    let foreign = wheel("foreign", "1.0").tag("cp27-cp27m-win32").build();
    index.add(foreign.clone());
    let error = fetch(&index, &foreign, WITHIN).expect_err("not for us");
    assert!(matches!(error, WheelError::NoWheel { .. }), "{error}");
    assert!(
        error.to_string().contains("it has foreign-1.0-cp27"),
        "{error}"
    );
    let error = fetch(&index, &plain("unknown"), WITHIN).expect_err("not there");
    assert!(matches!(error, WheelError::NoWheel { .. }), "{error}");
}

#[test]
fn a_slow_index_is_given_up() {
    let index = PackageIndex::start();
    let gate = Gate::closed();
    let slow = plain("slow");
    index.add(slow.clone());
    index.misbehave("slow", Mischief::Waits(gate.clone()));
    for only_files in [false, true] {
        if only_files {
            index.misbehave_for_files("slow", Mischief::Waits(gate.clone()));
        }
        let error = fetch(&index, &slow, Duration::from_millis(300)).expect_err("it waits");
        assert_eq!(error.code(), "timeout", "{error}");
    }
    gate.open();
    assert!(fetch(&index, &slow, WITHIN).is_ok());
}

#[test]
fn a_file_that_is_too_long_or_wanted_no_more_is_left() {
    let index = PackageIndex::start();
    let long = wheel("long", "1.0")
        .file("long.bin", noise(2 << 20))
        .build();
    index.add(long.clone());
    let error = fetch(&index, &long, WITHIN).expect_err("2 MiB");
    assert_eq!(error.code(), "too-large", "{error}");
    let place = TempDir::new().expect("made");
    let wheels = Wheels::open(place.path()).expect("opened");
    let limits = WheelLimits {
        within: WITHIN,
        bytes: 4 << 20,
        stop: Arc::default(),
    };
    let client = Client::new(&mirror(&index.url()));
    limits.stop.store(true, Ordering::Relaxed);
    let error = wheels
        .fetch(&pin(&long), &tags(), &client, &limits)
        .expect_err("stopped");
    assert!(matches!(error, WheelError::Stopped), "{error}");
    // Another worker with the same folder keeps what this one holds, and removes what nobody holds.
    limits.stop.store(false, Ordering::Relaxed);
    let held = wheels
        .fetch(&pin(&long), &tags(), &client, &limits)
        .expect("fetched");
    std::fs::create_dir(place.path().join("1-1")).expect("made");
    Wheels::open(place.path()).expect("opened");
    assert_eq!(files(place.path()), 1);
    assert_eq!(files(&place.path().join(held.folder())), 1);
}

/// Bytes that can't be compressed.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// A proxy that connects every tunnel to `to`, and reports the target that each asked for.
fn tunnels(to: SocketAddr) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let at = listener.local_addr().expect("bound");
    let (sender, asked) = mpsc::channel();
    thread::spawn(move || {
        for mut near in listener.incoming().map_while(Result::ok) {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                near.read_exact(&mut byte).expect("a request");
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let target = head.split(' ').nth(1).expect("a target").to_owned();
            // The test has ended.
            if sender.send(target).is_err() {
                return;
            }
            let mut far = TcpStream::connect(to).expect("it listens");
            near.write_all(b"HTTP/1.1 200 X\r\n\r\n").expect("written");
            let (mut up, mut down) = (
                near.try_clone().expect("open"),
                far.try_clone().expect("open"),
            );
            thread::spawn(move || drop(io::copy(&mut up, &mut far)));
            thread::spawn(move || drop(io::copy(&mut down, &mut near)));
        }
    });
    (at, asked)
}

/// The host's own proxy may have any address; targets behind it are judged by name.
#[test]
fn through_the_host_s_own_proxy() {
    let packages = PackageIndex::start();
    let dist = plain("m");
    packages.add(dist.clone());
    let (proxy, asked) = tunnels(packages.address());
    let proxy = format!("http://user:secret@{proxy}");
    let variable = |name: &str| (name == "http_proxy").then(|| proxy.clone());
    let host = Host::new(&variable, &|_| Err(io::ErrorKind::NotFound.into()));
    let wanted = Wanted {
        mirror: "http://index.example/simple",
        package_hosts: &[],
    };
    let through = Index::of(&host, &wanted).expect("good");
    assert_eq!(
        fetch_by(&through, &dist, WITHIN).expect("fetched"),
        dist.bytes
    );
    for host in [
        "127.0.0.1",
        "localhost",
        "169.254.169.254",
        "10.0.0.1",
        "files.example:8080",
    ] {
        packages.misbehave("m", Mischief::LinksFrom(host.into()));
        let error = fetch_by(&through, &dist, WITHIN).expect_err("it leads inside");
        assert!(
            error.to_string().contains("packages.hosts"),
            "{host}: {error}"
        );
    }
    let asked: BTreeSet<String> = asked.try_iter().collect();
    assert_eq!(asked, BTreeSet::from(["index.example:80".to_owned()]));
}

/// A link in a page must not make the worker ask services on its own machine.
#[test]
fn a_link_that_leads_inside_is_refused() {
    let (index, inside) = (PackageIndex::start(), PackageIndex::start());
    let dist = plain("m");
    index.add(dist.clone());
    inside.add(dist.clone());
    for host in [
        inside.address().to_string(),
        "169.254.169.254".into(),
        "[::1]:80".into(),
    ] {
        index.misbehave("m", Mischief::LinksFrom(host.clone()));
        let error = fetch(&index, &dist, WITHIN).expect_err("it leads inside");
        assert_eq!(error.code(), "index-unreachable", "{host}: {error}");
        assert!(
            error.to_string().contains("packages.hosts"),
            "{host}: {error}"
        );
    }
    assert_eq!(inside.asked(), Vec::<String>::new());
}

fn read(packed: &Packed, pin: &Pin, tags: &Tags) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    packed
        .find(pin, tags)?
        .read_to_end(&mut bytes)
        .expect("whole");
    Some(bytes)
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).expect("there").count()
}

#[test]
fn copies_are_of_one_wheel_and_one_interpreter_and_the_oldest_go() {
    let place = TempDir::new().expect("made");
    let packed = Packed::open(place.path(), 64 << 20).expect("opened");
    let dists = ["a", "b", "c"].map(plain);
    for (number, dist) in dists.iter().enumerate() {
        let tar = vec![u8::try_from(number).expect("few"); 3 << 20];
        let hash = pin(dist).hashes()[0];
        drop(packed.pack(&hash, &tags(), &tar[..]).expect("packed"));
        assert_eq!(read(&packed, &pin(dist), &tags()), None, "it wasn't kept");
        let packing = packed.pack(&hash, &tags(), &tar[..]).expect("packed");
        packing.keep().expect("kept");
        assert_eq!(read(&packed, &pin(dist), &tags()), Some(tar));
    }
    let other = Tags {
        minor: 12,
        abi: "cp312".into(),
        ..tags()
    };
    assert_eq!(read(&packed, &pin(&dists[0]), &other), None);
    // Reading the first one makes it the last used.
    assert!(read(&packed, &pin(&dists[0]), &tags()).is_some());
    let length = std::fs::read_dir(place.path())
        .expect("there")
        .next()
        .expect("one");
    let length = length
        .and_then(|file| file.metadata())
        .expect("there")
        .len();
    packed.collect(length * 2).expect("collected");
    let there = dists
        .each_ref()
        .map(|dist| read(&packed, &pin(dist), &tags()).is_some());
    assert_eq!(there, [true, false, true]);
    packed.forget(&pin(&dists[2]), &tags());
    assert_eq!(files(place.path()), 1);
    packed.collect(0).expect("collected");
    assert_eq!(files(place.path()), 0);
}

#[test]
fn a_copy_that_was_cut_or_changed_is_an_error() {
    let place = TempDir::new().expect("made");
    let packed = Packed::open(place.path(), 64 << 20).expect("opened");
    let dist = plain("m");
    let tar: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let packing = packed.pack(&pin(&dist).hashes()[0], &tags(), &tar[..]);
    packing.expect("packed").keep().expect("kept");
    let file = std::fs::read_dir(place.path()).expect("there").next();
    let file = file.expect("one").expect("read").path();
    let whole = std::fs::read(&file).expect("readable");
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    for damaged in [
        &whole[..whole.len() - 3],
        &whole[..whole.len() / 2],
        &changed,
    ] {
        std::fs::write(&file, damaged).expect("written");
        let mut copy = packed.find(&pin(&dist), &tags()).expect("there");
        assert!(copy.read_to_end(&mut Vec::new()).is_err());
    }
    // A tar without end isn't kept, nor is the part that was written.
    let little = Packed::open(place.path(), 1000).expect("opened");
    let endless = noise(1 << 20);
    let packed = little.pack(&pin(&plain("n")).hashes()[0], &tags(), &endless[..]);
    assert!(packed.is_err_and(|error| error.to_string().contains("packed_mb")));
    assert_eq!(files(place.path()), 1);
    // What a crash left of packing is removed when the folder is opened.
    std::fs::write(place.path().join(".partial-7"), "x").expect("written");
    Packed::open(place.path(), 64 << 20).expect("opened");
    assert_eq!(files(place.path()), 1);
}
