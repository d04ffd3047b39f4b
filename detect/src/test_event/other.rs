//! Events that are no exec.

use std::time::Duration;

use event::{
    Bytes, Digest, DropReason, EventClass, Exit, ExitStatus, FailedExec, HashFailure, Hashed, Lost,
};

use super::{TIME, TestEvent, key};

impl TestEvent {
    pub(super) fn exit(&self) -> Result<Exit, String> {
        Ok(Exit {
            key: self.key(),
            parent: self.parent_pid().map(key),
            status: self.status()?,
            run_time: self.run_time.map(Duration::from_nanos),
            comm: self.comm(),
            exe: self.exe(),
            muted: false,
        })
    }

    fn status(&self) -> Result<Option<ExitStatus>, String> {
        let (code, signal) = (self.exit_code.unwrap_or(0), self.exit_signal.unwrap_or(0));
        let core_dumped = self.core_dumped == Some(true);
        if self.status_unknown == Some(true) {
            let told = self.exit_code.is_some() || self.exit_signal.is_some() || core_dumped;
            let problem = "has `status_unknown` and a status".to_owned();
            return if told { Err(problem) } else { Ok(None) };
        }
        let raw = (code & 0xff) << 8 | u32::from(core_dumped) << 7 | signal & 0x7f;
        Ok(Some(ExitStatus {
            raw,
            code,
            signal,
            core_dumped,
        }))
    }

    pub(super) fn failed_exec(&self) -> FailedExec {
        FailedExec {
            key: self.key(),
            parent: self.parent_pid().map(key),
            comm: self.comm(),
            exe: self.exe(),
            filename: Bytes::from(self.filename.clone().unwrap_or_default()),
            errno: self.errno.unwrap_or(2),
            credentials: self.credentials(),
            muted: false,
        }
    }

    pub(super) fn hashed(&self) -> Result<Hashed, String> {
        Ok(Hashed {
            key: self.key(),
            exe: self.exe(),
            exe_file: Some(self.file()),
            outcome: self.outcome()?,
        })
    }

    /// Hashing went well unless the test says otherwise.
    fn outcome(&self) -> Result<Result<Digest, HashFailure>, String> {
        let Some(failure) = &self.hash_failure else {
            return Ok(Ok(Digest {
                sha256: self.digest()?.unwrap_or_default(),
                changed: self.exe_changed == Some(true),
                touched: self.exe_touched == Some(true),
            }));
        };
        let marks = [self.exe_changed, self.exe_touched];
        if self.sha256.is_some() || marks.iter().any(Option::is_some) {
            return Err("has `hash_failure` and a digest".to_owned());
        }
        named(HashFailure::ALL, HashFailure::name, failure)
            .map(Err)
            .ok_or_else(|| format!("has the unknown hash failure `{failure}`"))
    }

    pub(super) fn lost(&self) -> Result<Lost, String> {
        let class = self.class.as_deref().unwrap_or("exec");
        let reason = self.reason.as_deref().unwrap_or("ring_full");
        Ok(Lost {
            class: named(EventClass::ALL, EventClass::name, class)
                .ok_or_else(|| format!("has the unknown class `{class}`"))?,
            reason: named(DropReason::ALL, DropReason::name, reason)
                .ok_or_else(|| format!("has the unknown reason `{reason}`"))?,
            count: self.count.unwrap_or(1),
            from: TIME,
            to: TIME,
        })
    }
}

fn named<T: Copy, const N: usize>(
    all: [T; N],
    name: fn(T) -> &'static str,
    wanted: &str,
) -> Option<T> {
    all.into_iter().find(|one| name(*one) == wanted)
}
