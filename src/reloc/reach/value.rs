//! What is known of a register or a stack slot, and arithmetic on it.
//!
//! Never more than a verifier knows, whichever kernel's: where one kernel computes a value and an older one gives up, so
//! does this.

use skep_asm::{AluOp, Cond, Size, Width};

use crate::spec::MapIndex;

/// What is known of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A number.
    Known(u64),
    /// A number, or the address of a map's value, that is not 0.
    NotZero,
    /// A place in the value of a map.
    Map { map: MapIndex, offset: i64 },
    /// A place in the stack frame of the function that holds the value.
    Frame(i64),
    /// Anything but the address of a stack. `open`: it depends on what is not known of the target.
    Other { open: bool },
    /// Anything.
    Any { open: bool },
}

impl Value {
    pub(super) const OTHER: Value = Value::Other { open: false };
    pub(super) const ANY: Value = Value::Any { open: false };

    pub(super) fn is_open(self) -> bool {
        matches!(self, Value::Other { open: true } | Value::Any { open: true })
    }

    /// Whether it may be the address of a stack.
    pub(super) fn may_be_stack(self) -> bool {
        matches!(self, Value::Frame(_) | Value::Any { .. })
    }

    /// Whether it may be a number, which a test can make known.
    pub(super) fn is_number(self) -> bool {
        !matches!(self, Value::Frame(_) | Value::Map { .. })
    }

    /// What is known where both ways meet. `open`: which way is taken may depend on what is not known of the target.
    pub(super) fn join(self, other: Value, open: bool) -> Value {
        if self == other {
            return self;
        }
        let open = open || self.is_open() || other.is_open();
        let not_zero = |value| match value {
            Value::Known(number) => number != 0,
            Value::NotZero | Value::Map { .. } => true,
            _ => false,
        };
        if self.may_be_stack() || other.may_be_stack() {
            Value::Any { open }
        } else if not_zero(self) && not_zero(other) && !open {
            Value::NotZero
        } else {
            Value::Other { open }
        }
    }

    /// The value as another function sees it, to which a place in this frame is a place in some frame.
    pub(super) fn passed(self) -> Value {
        match self {
            Value::Frame(_) => Value::ANY,
            other => other,
        }
    }

    /// The low half, as moves and arithmetic of 32 bits leave it. It is a number, whatever it was.
    pub(super) fn low(self) -> Value {
        match self {
            Value::Known(number) => Value::Known(number & 0xffff_ffff),
            other => Value::Other { open: other.is_open() },
        }
    }
}

/// The sign of the low bits of a number, extended.
pub(super) fn sign_extend(number: u64, from: Size) -> u64 {
    let unused = 64 - u32::from(from.bits());
    (number << unused).cast_signed().wrapping_shr(unused).cast_unsigned()
}

/// `a op b`.
pub(super) fn arithmetic(width: Width, op: AluOp, a: Value, b: Value) -> Value {
    let open = a.is_open() || b.is_open();
    if let (Value::Known(a), Value::Known(b)) = (a, b) {
        return match width {
            Width::W64 => numbers(op, a, b).map_or(Value::OTHER, Value::Known),
            Width::W32 => {
                halves(op, a as u32, b as u32).map_or(Value::OTHER, |number| Value::Known(number.into()))
            }
        };
    }
    if op == AluOp::And && (a == Value::Known(0) || b == Value::Known(0)) {
        return Value::Known(0);
    }
    if width == Width::W32 {
        return Value::Other { open };
    }
    let moved = |by: u64| match op {
        AluOp::Add => Some(by.cast_signed()),
        AluOp::Sub => by.cast_signed().checked_neg(),
        _ => None,
    };
    let place = match (a, b) {
        (Value::Frame(at), Value::Known(by)) => moved(by).and_then(|by| at.checked_add(by)).map(Value::Frame),
        (Value::Map { map, offset }, Value::Known(by)) => {
            moved(by).and_then(|by| offset.checked_add(by)).map(|offset| Value::Map { map, offset })
        }
        (Value::Known(by), Value::Frame(at)) if op == AluOp::Add => {
            at.checked_add(by.cast_signed()).map(Value::Frame)
        }
        (Value::Known(by), Value::Map { map, offset }) if op == AluOp::Add => {
            offset.checked_add(by.cast_signed()).map(|offset| Value::Map { map, offset })
        }
        _ => None,
    };
    match place {
        Some(place) => place,
        None if a.may_be_stack() || b.may_be_stack() => Value::Any { open },
        None => Value::Other { open },
    }
}

fn numbers(op: AluOp, a: u64, b: u64) -> Option<u64> {
    let shift = u32::try_from(b).ok().filter(|&by| by < 64);
    Some(match op {
        AluOp::Add => a.wrapping_add(b),
        AluOp::Sub => a.wrapping_sub(b),
        AluOp::Mul => a.wrapping_mul(b),
        AluOp::Or => a | b,
        AluOp::And => a & b,
        AluOp::Xor => a ^ b,
        AluOp::Lsh => a << shift?,
        AluOp::Rsh => a >> shift?,
        AluOp::Arsh => (a.cast_signed() >> shift?).cast_unsigned(),
        // Verifiers before Linux 7.0 give up.
        _ => return None,
    })
}

fn halves(op: AluOp, a: u32, b: u32) -> Option<u32> {
    let shift = Some(b).filter(|&by| by < 32);
    Some(match op {
        AluOp::Add => a.wrapping_add(b),
        AluOp::Sub => a.wrapping_sub(b),
        AluOp::Mul => a.wrapping_mul(b),
        AluOp::Or => a | b,
        AluOp::And => a & b,
        AluOp::Xor => a ^ b,
        AluOp::Lsh => a << shift?,
        AluOp::Rsh => a >> shift?,
        AluOp::Arsh => (a.cast_signed() >> shift?).cast_unsigned(),
        _ => return None,
    })
}

/// Whether `a cond b`, where that is known.
pub(super) fn decide(width: Width, cond: Cond, a: Value, b: Value) -> Option<bool> {
    let (a, b) = match (a, b) {
        (Value::Known(a), Value::Known(b)) => (a, b),
        (Value::NotZero | Value::Map { .. }, Value::Known(0)) if width == Width::W64 => {
            return match cond {
                Cond::Eq => Some(false),
                Cond::Ne => Some(true),
                _ => None,
            };
        }
        _ => return None,
    };
    let (a, b) = match width {
        Width::W64 => (a, b),
        // Order is kept: both ways of extending a half to a whole are monotonic, and the signed one is used below.
        Width::W32 => (sign_extend(a, Size::W), sign_extend(b, Size::W)),
    };
    let (signed_a, signed_b) = (a.cast_signed(), b.cast_signed());
    Some(match cond {
        Cond::Eq => a == b,
        Cond::Ne => a != b,
        Cond::Gt => a > b,
        Cond::Ge => a >= b,
        Cond::Lt => a < b,
        Cond::Le => a <= b,
        Cond::Sgt => signed_a > signed_b,
        Cond::Sge => signed_a >= signed_b,
        Cond::Slt => signed_a < signed_b,
        Cond::Sle => signed_a <= signed_b,
        Cond::Set if width == Width::W32 => a & b & 0xffff_ffff != 0,
        Cond::Set => a & b != 0,
        _ => return None,
    })
}
