//! Control groups whose path the programs have sent.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cgroup::Membership;

/// Control groups that are remembered: twice what the programs remember having sent.
const REMEMBERED: usize = 8_192;

/// Memberships by control group id.
#[derive(Debug, Default)]
pub(crate) struct Cgroups {
    known: HashMap<u64, Known>,
    clock: u64,
}

#[derive(Debug)]
struct Known {
    membership: Arc<Membership>,
    used: u64,
}

impl Cgroups {
    /// Remembers a control group, from its path's components, innermost first, each with its NUL.
    pub(crate) fn learn(&mut self, id: u64, components: &[u8]) {
        let outermost_first = components.rsplit(|b| *b == 0).filter(|c| !c.is_empty());
        self.insert(id, Membership::of_components(outermost_first));
    }

    /// The membership of a control group; asks `otherwise` for the path of one that is not known.
    pub(crate) fn of(
        &mut self,
        id: u64,
        otherwise: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Option<Arc<Membership>> {
        self.clock += 1;
        if let Some(known) = self.known.get_mut(&id) {
            known.used = self.clock;
            return Some(Arc::clone(&known.membership));
        }
        Some(self.insert(id, Membership::of_path(&otherwise()?)))
    }

    fn insert(&mut self, id: u64, membership: Membership) -> Arc<Membership> {
        self.make_room();
        let membership = Arc::new(membership);
        let known = Known {
            membership: Arc::clone(&membership),
            used: self.clock,
        };
        self.known.insert(id, known);
        membership
    }

    /// Forgets the less recently used half of a full table.
    fn make_room(&mut self) {
        if self.known.len() < REMEMBERED {
            return;
        }
        let mut used: Vec<u64> = self.known.values().map(|known| known.used).collect();
        let (_, median, _) = used.select_nth_unstable(REMEMBERED / 2);
        let median = *median;
        self.known.retain(|_, known| known.used > median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_groups_need_no_second_look_and_the_least_used_go_first() {
        let mut cgroups = Cgroups::default();
        cgroups.learn(1, b"ssh.service\0system.slice\0");
        for id in 2..=REMEMBERED as u64 + 10 {
            let known = cgroups.of(1, || panic!("forgotten at {id}")).unwrap();
            assert_eq!(known.unit.as_deref(), Some(&b"ssh.service"[..]));
            cgroups.of(id, || Some(b"/x.service".to_vec())).unwrap();
        }
        assert!(cgroups.known.len() < REMEMBERED);
        assert!(cgroups.of(u64::MAX, || None).is_none());
    }
}
