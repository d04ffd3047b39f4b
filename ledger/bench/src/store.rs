//! What is measured: the ledger and what it stands beside.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use ledger::{Ledger, Options, Retention};
use rusqlite::Connection;

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Chain, tree, tiles, signatures and all
    Ledger,
    /// Records in a table, in WAL mode with synchronous=FULL
    Sqlite,
    /// Bytes appended to a file, and fdatasync
    File,
}

/// Leaves that become durable in batches.
pub(crate) trait Store {
    fn append(&mut self, leaf: &[u8]) -> Result<()>;
    fn commit(&mut self) -> Result<()>;
    /// After the last commit, and measured as well.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A new store in `dir`.
pub(crate) fn create(kind: Kind, dir: &Path) -> Result<Box<dyn Store>> {
    fs::create_dir_all(dir)?;
    Ok(match kind {
        Kind::Ledger => Box::new(Signed::create(dir)?),
        Kind::Sqlite => Box::new(Sqlite::create(dir)?),
        Kind::File => Box::new(Bare::create(dir)?),
    })
}

/// A ledger that signs as often as the daemon's does.
pub(crate) struct Signed {
    pub(crate) ledger: Ledger,
    keep: Retention,
    unsigned: u64,
    signed_at: Instant,
}

impl Signed {
    const LEAVES: u64 = 1 << 17;
    const INTERVAL: Duration = Duration::from_secs(10);

    pub(crate) fn create(dir: &Path) -> Result<Self> {
        let (ledger, _) = Ledger::open(dir, &Options::new("daemoneye/bench"))?;
        Ok(Self {
            ledger,
            keep: Retention::default(),
            unsigned: 0,
            signed_at: Instant::now(),
        })
    }

    /// The oldest segments go where there are more bytes.
    pub(crate) fn keep(self, bytes: Option<u64>) -> Self {
        let keep = Retention {
            bytes,
            seconds: None,
        };
        Self { keep, ..self }
    }

    fn sign(&mut self) -> Result<()> {
        self.ledger.checkpoint()?;
        self.ledger.retain(&self.keep, u64::MAX)?;
        (self.unsigned, self.signed_at) = (0, Instant::now());
        Ok(())
    }
}

impl Store for Signed {
    fn append(&mut self, leaf: &[u8]) -> Result<()> {
        self.ledger.append(leaf)?;
        self.unsigned += 1;
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        self.ledger.commit()?;
        match self.unsigned >= Self::LEAVES || self.signed_at.elapsed() >= Self::INTERVAL {
            true => self.sign(),
            false => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<()> {
        self.sign()
    }
}

struct Sqlite {
    connection: Connection,
    in_transaction: bool,
}

impl Sqlite {
    fn create(dir: &Path) -> Result<Self> {
        let connection = Connection::open(dir.join("leaves.sqlite"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let table = "CREATE TABLE leaves (id INTEGER PRIMARY KEY, leaf BLOB NOT NULL)";
        connection.execute(table, [])?;
        Ok(Self {
            connection,
            in_transaction: false,
        })
    }
}

impl Store for Sqlite {
    fn append(&mut self, leaf: &[u8]) -> Result<()> {
        if !self.in_transaction {
            self.connection.prepare_cached("BEGIN")?.execute([])?;
            self.in_transaction = true;
        }
        let insert = "INSERT INTO leaves (leaf) VALUES (?1)";
        self.connection.prepare_cached(insert)?.execute([leaf])?;
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        self.in_transaction = false;
        Ok(())
    }
}

struct Bare {
    file: File,
    batch: Vec<u8>,
}

impl Bare {
    fn create(dir: &Path) -> Result<Self> {
        Ok(Self {
            file: File::create_new(dir.join("leaves"))?,
            batch: Vec::new(),
        })
    }
}

impl Store for Bare {
    fn append(&mut self, leaf: &[u8]) -> Result<()> {
        self.batch.extend_from_slice(leaf);
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        self.file.write_all(&self.batch)?;
        self.batch.clear();
        Ok(self.file.sync_data()?)
    }
}

/// Leaves of one length that differ: random bytes, read from a moving place.
pub(crate) struct Leaves {
    bytes: Vec<u8>,
    len: usize,
    next: usize,
}

impl Leaves {
    const BYTES: usize = 1 << 16;

    pub(crate) fn new(len: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(1);
        let bytes = std::iter::repeat_with(|| random.u8(..));
        Self {
            bytes: bytes.take(Self::BYTES + len).collect(),
            len,
            next: 0,
        }
    }

    pub(crate) fn next(&mut self) -> &[u8] {
        self.next = (self.next + 1) % Self::BYTES;
        &self.bytes[self.next..self.next + self.len]
    }
}
