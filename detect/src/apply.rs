//! Functions of several values, and operators.

use std::borrow::Cow;

use crate::ir::Function;
use crate::text::units_with_bytes;
use crate::view::Value;

/// Longest text that a function makes; what would be longer is `NULL`.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// The value of a function of these, of which none is `NULL`. `None` is `NULL`: an operand of
/// another type, an overflow, a division by zero.
pub(crate) fn apply<'v>(function: Function, values: Vec<Value<'v>>) -> Option<Value<'v>> {
    use Value::{Int, Text};
    match (function, values.as_slice()) {
        (Function::Concat, parts) => concat(parts),
        (Function::Replace, [Text(text), Text(from), Text(to)]) => replace(text, from, to),
        (Function::Substring, [Text(text), Int(from)]) => Some(substring(text, *from, i128::MAX)),
        (Function::Substring, [Text(text), Int(from), Int(count)]) => {
            (*count >= 0).then(|| substring(text, *from, from.saturating_add(*count)))
        }
        (Function::Position, [Text(part), Text(text)]) => position(part, text),
        (Function::SplitPart, [Text(text), Text(by), Int(number)]) => {
            Some(owned(split_part(text, by, *number)))
        }
        (Function::Trim { start, end }, [Text(text), Text(chars)]) => {
            Some(owned(trim(text, chars, start, end)))
        }
        (_, [Int(left), Int(right)]) => calculate(function, *left, *right).map(Int),
        _ => None,
    }
}

fn owned(text: &[u8]) -> Value<'static> {
    Value::Text(Cow::Owned(text.to_vec()))
}

fn calculate(function: Function, left: i128, right: i128) -> Option<i128> {
    match function {
        Function::Add => left.checked_add(right),
        Function::Subtract => left.checked_sub(right),
        Function::Multiply => left.checked_mul(right),
        Function::Divide => left.checked_div(right),
        Function::Remainder => left.checked_rem(right),
        Function::BitAnd => Some(left & right),
        Function::BitOr => Some(left | right),
        Function::ShiftLeft => {
            let factor = 1i128.checked_shl(u32::try_from(right).ok()?)?;
            left.checked_mul(Some(factor).filter(|factor| *factor > 0)?)
        }
        Function::ShiftRight => left.checked_shr(u32::try_from(right).ok()?),
        _ => None,
    }
}

fn concat(parts: &[Value<'_>]) -> Option<Value<'static>> {
    let mut whole = Vec::new();
    for part in parts {
        let Value::Text(part) = part else {
            return None;
        };
        whole.extend_from_slice(part);
    }
    bounded(whole)
}

fn bounded(text: Vec<u8>) -> Option<Value<'static>> {
    (text.len() <= MAX_TEXT_BYTES).then_some(Value::Text(Cow::Owned(text)))
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Option<Value<'static>> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some(at) = find(rest, from).filter(|_| !from.is_empty()) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
        if out.len() > MAX_TEXT_BYTES {
            return None;
        }
    }
    out.extend_from_slice(rest);
    bounded(out)
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, part)
}

/// Characters from number `from` on and before number `end`, counted from 1.
fn substring(text: &[u8], from: i128, end: i128) -> Value<'static> {
    let numbered = (1i128..).zip(units_with_bytes(text));
    let inside = numbered.filter(|(number, _)| (from..end).contains(number));
    let bytes: Vec<u8> = inside.flat_map(|(_, bytes)| bytes).copied().collect();
    Value::Text(Cow::Owned(bytes))
}

/// Number of the character at which the part begins; 0 where it does not occur.
fn position(part: &[u8], text: &[u8]) -> Option<Value<'static>> {
    let number = match find(text, part) {
        Some(at) => units_with_bytes(&text[..at]).count() + 1,
        None => 0,
    };
    i128::try_from(number).ok().map(Value::Int)
}

/// Counted from 1, or from the end with negative numbers; empty where there is none.
fn split_part<'t>(text: &'t [u8], by: &[u8], number: i128) -> &'t [u8] {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = find(rest, by).filter(|_| !by.is_empty()) {
        parts.push(&rest[..at]);
        rest = &rest[at + by.len()..];
    }
    parts.push(rest);
    let count = i128::try_from(parts.len()).unwrap_or(i128::MAX);
    let index = if number < 0 {
        count.checked_add(number)
    } else {
        number.checked_sub(1)
    };
    let part = index.and_then(|index| parts.get(usize::try_from(index).ok()?));
    part.copied().unwrap_or_default()
}

/// Without the characters at the ends that are among `chars`.
fn trim<'t>(text: &'t [u8], chars: &[u8], start: bool, end: bool) -> &'t [u8] {
    let chars: Vec<&[u8]> = units_with_bytes(chars).collect();
    let units: Vec<&[u8]> = units_with_bytes(text).collect();
    let leading = units
        .iter()
        .take_while(|unit| start && chars.contains(unit));
    let skip = leading.map(|unit| unit.len()).sum::<usize>();
    let text = &text[skip..];
    let units: Vec<&[u8]> = units_with_bytes(text).collect();
    let trailing = units
        .iter()
        .rev()
        .take_while(|unit| end && chars.contains(unit));
    &text[..text.len() - trailing.map(|unit| unit.len()).sum::<usize>()]
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::apply;
    use crate::ir::Function;
    use crate::view::Value;

    fn text(text: &[u8]) -> Value<'_> {
        Value::Text(Cow::Borrowed(text))
    }

    fn check(function: Function, values: &[Value<'static>], expected: Option<Value<'static>>) {
        let what = format!("{function:?} {values:?}");
        assert_eq!(apply(function, values.to_vec()), expected, "{what}");
    }

    fn number(function: Function, left: i128, right: i128, expected: Option<i128>) {
        check(
            function,
            &[Value::Int(left), Value::Int(right)],
            expected.map(Value::Int),
        );
    }

    #[test]
    fn arithmetic_that_has_no_result_is_null() {
        number(Function::Add, 2, 3, Some(5));
        number(Function::Add, i128::MAX, 1, None);
        number(Function::Subtract, i128::MIN, 1, None);
        number(Function::Multiply, i128::MAX, 2, None);
        number(Function::Divide, -7, 2, Some(-3));
        number(Function::Divide, 1, 0, None);
        number(Function::Divide, i128::MIN, -1, None);
        number(Function::Remainder, -7, 2, Some(-1));
        number(Function::Remainder, 1, 0, None);
        number(Function::BitAnd, 6, 3, Some(2));
        number(Function::BitOr, 6, 3, Some(7));
        number(Function::ShiftLeft, 1, 40, Some(1 << 40));
        number(Function::ShiftLeft, 1, 127, None);
        number(Function::ShiftLeft, 1, 128, None);
        number(Function::ShiftLeft, 1, -1, None);
        number(Function::ShiftRight, 8, 2, Some(2));
        number(Function::ShiftRight, 8, 200, None);
    }

    #[test]
    fn positions_count_characters_and_stray_bytes() {
        let substring = |of: &'static [u8], from, count, expected: &'static [u8]| {
            let values = [text(of), Value::Int(from), Value::Int(count)];
            check(Function::Substring, &values, Some(text(expected)));
        };
        substring("aébc".as_bytes(), 2, 2, "éb".as_bytes());
        substring(b"\xffab", 2, 9, b"ab");
        substring(b"abc", 0, 2, b"a");
        substring(b"abc", 9, 2, b"");
        substring(b"abc", i128::MIN, 2, b"");
        substring(b"abc", 2, i128::MAX, b"bc");
        let values = [text(b"abc"), Value::Int(1), Value::Int(-1)];
        check(Function::Substring, &values, None);
        let position = |part: &'static [u8], of: &'static [u8], expected| {
            check(
                Function::Position,
                &[text(part), text(of)],
                Some(Value::Int(expected)),
            );
        };
        position(b"b", "éb".as_bytes(), 2);
        position(b"", b"ab", 1);
        position(b"x", b"ab", 0);
    }

    #[test]
    fn texts_are_cut_joined_and_replaced() {
        let part = |of: &'static [u8], by: &'static [u8], number, expected: &'static [u8]| {
            let values = [text(of), text(by), Value::Int(number)];
            check(Function::SplitPart, &values, Some(text(expected)));
        };
        part(b"/a/b", b"/", 2, b"a");
        part(b"/a/b", b"/", -1, b"b");
        part(b"/a/b", b"/", 0, b"");
        part(b"/a/b", b"/", 9, b"");
        part(b"ab", b"", 1, b"ab");
        part(b"ab", b"x", i128::MIN, b"");
        let both = Function::Trim {
            start: true,
            end: true,
        };
        check(both, &[text(b"  a b "), text(b" ")], Some(text(b"a b")));
        check(both, &[text(b"xx"), text(b"x")], Some(text(b"")));
        let end = Function::Trim {
            start: false,
            end: true,
        };
        check(
            end,
            &[text("aéé".as_bytes()), text("é".as_bytes())],
            Some(text(b"a")),
        );
        let replace = |of: &'static [u8], expected: &'static [u8]| {
            check(
                Function::Replace,
                &[text(of), text(b"aa"), text(b"b")],
                Some(text(expected)),
            );
        };
        replace(b"aaa", b"ba");
        replace(b"", b"");
        check(
            Function::Replace,
            &[text(b"ab"), text(b""), text(b"x")],
            Some(text(b"ab")),
        );
        check(
            Function::Concat,
            &[text(b"a"), text(b"b")],
            Some(text(b"ab")),
        );
        let long: &'static [u8] = Box::leak(vec![b'a'; 40_000].into());
        check(Function::Concat, &[text(long), text(long)], None);
        check(
            Function::Replace,
            &[text(long), text(b"a"), text(b"bb")],
            None,
        );
    }
}
