//! What the numbers of messages prove about messages that did not come.

use std::collections::HashMap;

use super::message::Number;

/// The numbers that came, by cpu.
#[derive(Debug, Default)]
pub(crate) struct Sequences {
    cpus: HashMap<u32, Cpu>,
}

#[derive(Debug)]
struct Cpu {
    first: u64,
    highest: u64,
    count: u64,
}

impl Sequences {
    /// Notes a number and gives it as one that does not wrap. Numbers of a cpu may swap places.
    pub(crate) fn arrived(&mut self, number: Number) -> u64 {
        let sequence = u64::from(number.sequence);
        let cpu = self.cpus.entry(number.cpu).or_insert(Cpu {
            first: sequence,
            highest: sequence,
            count: 0,
        });
        let sequence = unwrapped(number.sequence, cpu.highest);
        cpu.first = cpu.first.min(sequence);
        cpu.highest = cpu.highest.max(sequence);
        cpu.count += 1;
        sequence
    }

    /// Messages that must have been sent between the first and the last one that came, and that
    /// did not come.
    pub(crate) fn gaps(&self) -> u64 {
        self.cpus
            .values()
            .map(|cpu| (cpu.highest - cpu.first + 1).saturating_sub(cpu.count))
            .sum()
    }
}

/// The number nearest to `near` that ends in these 32 bits.
fn unwrapped(sequence: u32, near: u64) -> u64 {
    let low = u32::try_from(near & u64::from(u32::MAX)).expect("masked");
    let ahead = sequence.wrapping_sub(low).cast_signed();
    near.saturating_add_signed(ahead.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps_after(numbers: &[(u32, u32)]) -> u64 {
        let mut sequences = Sequences::default();
        for (cpu, sequence) in numbers {
            sequences.arrived(Number {
                cpu: *cpu,
                sequence: *sequence,
            });
        }
        sequences.gaps()
    }

    #[test]
    fn only_what_lies_between_numbers_of_one_cpu_is_missing() {
        let check = |numbers: &[(u32, u32)], gaps| assert_eq!(gaps_after(numbers), gaps);
        check(&[], 0);
        check(&[(0, 70), (0, 71), (1, 5)], 0);
        check(&[(0, 70), (0, 73), (1, 5), (1, 7)], 3);
        check(&[(0, 70), (0, 72), (0, 71)], 0);
        check(&[(0, 72), (0, 71)], 0);
    }

    #[test]
    fn numbers_wrap_without_a_gap() {
        let wrapped = [(0, u32::MAX - 1), (0, u32::MAX), (0, 0), (0, 2)];
        assert_eq!(gaps_after(&wrapped), 1);
        assert_eq!(unwrapped(0, u32::MAX.into()), 1 << 32);
        assert_eq!(unwrapped(u32::MAX, 1 << 32), u64::from(u32::MAX));
        assert_eq!(unwrapped(u32::MAX, 0), 0);
    }
}
