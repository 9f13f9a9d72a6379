//! Keys and values of maps as JSON, by their types where these are known.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map as Object, Value};
use skep::btf::{Btf, Datum, Kind, TypeId};

/// What bytes are as JSON: by the type, or in hexadecimal digits.
pub(super) fn json(types: Option<(&Btf, TypeId)>, bytes: &[u8]) -> Value {
    let datum = types.and_then(|(btf, id)| btf.datum(id, bytes).ok());
    datum.map_or_else(|| Value::String(hex(bytes)), |datum| of(&datum))
}

/// The same for people, as C writes it.
pub(super) fn text(types: Option<(&Btf, TypeId)>, bytes: &[u8]) -> String {
    let datum = types.and_then(|(btf, id)| btf.datum(id, bytes).ok());
    datum.map_or_else(|| hex(bytes), |datum| datum.to_string())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from hexadecimal digits; blanks, colons and a leading `0x` are skipped.
pub(super) fn unhex(text: &str) -> Result<Vec<u8>> {
    let digits: String =
        text.trim().trim_start_matches("0x").chars().filter(|c| !c.is_whitespace() && *c != ':').collect();
    ensure!(
        digits.len().is_multiple_of(2) && digits.is_ascii(),
        "`{text}` is not pairs of hexadecimal digits"
    );
    let pairs = digits.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair)?;
        u8::from_str_radix(pair, 16).with_context(|| format!("`{pair}` is not a hexadecimal number"))
    });
    pairs.collect()
}

fn of(datum: &Datum) -> Value {
    match datum {
        Datum::Int(number) => match (i64::try_from(*number), u64::try_from(*number)) {
            (Ok(number), _) => number.into(),
            (_, Ok(number)) => number.into(),
            _ => number.to_string().into(),
        },
        Datum::Bool(flag) => (*flag).into(),
        Datum::Float(number) => (*number).into(),
        Datum::Text(text) => text.clone().into(),
        Datum::Name(name, _) => name.clone().into(),
        Datum::Pointer(address) => format!("{address:#x}").into(),
        Datum::Struct(members) => Value::Object(
            members.iter().map(|(name, member)| (name.clone(), of(member))).collect::<Object<_, _>>(),
        ),
        Datum::Array(elements) => Value::Array(elements.iter().map(of).collect()),
        Datum::Bytes(bytes) => hex(bytes).into(),
        _ => Value::Null,
    }
}

/// The bytes of a value that JSON tells. Members that are not told stay as they are in `bytes`.
pub(super) fn bytes(types: Option<(&Btf, TypeId)>, value: &Value, mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    let len = bytes.len();
    match (types, value) {
        (Some((btf, id)), value) => write(btf, id, value, &mut bytes, 0)?,
        (None, Value::String(text)) => {
            let told = unhex(text)?;
            ensure!(told.len() == len, "{} bytes, where there are {len}", told.len());
            bytes = told;
        }
        (None, Value::Number(number)) => put(number_of(number)?, &mut bytes)?,
        (None, other) => {
            bail!("`{other}` for bytes whose type is not known: give hexadecimal digits or a number")
        }
    }
    Ok(bytes)
}

fn number_of(number: &serde_json::Number) -> Result<i128> {
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    whole.with_context(|| format!("`{number}` is not a whole number"))
}

/// Writes a number over all these bytes.
fn put(number: i128, to: &mut [u8]) -> Result<()> {
    let bits = (to.len() as u32).saturating_mul(8).min(127);
    ensure!(
        number >= -(1 << (bits.max(1) - 1)) && number < 1 << bits,
        "{number} does not fit {} bytes",
        to.len()
    );
    let bytes = number.to_le_bytes();
    to.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    if cfg!(target_endian = "big") {
        to.reverse();
    }
    Ok(())
}

/// How deep types go that are followed.
const DEPTH_MAX: u32 = 32;

fn write(btf: &Btf, id: TypeId, value: &Value, to: &mut [u8], depth: u32) -> Result<()> {
    ensure!(depth < DEPTH_MAX, "types that are nested too deep");
    let ty = btf.peel(id)?;
    match (ty.kind(), value) {
        (Kind::INT | Kind::ENUM | Kind::ENUM64 | Kind::PTR, Value::Number(number)) => {
            put(number_of(number)?, to)
        }
        (Kind::INT, Value::Bool(flag)) => put((*flag).into(), to),
        (Kind::ENUM | Kind::ENUM64, Value::String(name)) => {
            let found = ty.enumerators().find(|one| one.name() == name.as_str());
            put(found.with_context(|| format!("`{}` has no value `{name}`", ty.name()))?.c_value(), to)
        }
        (Kind::FLOAT, Value::Number(number)) => {
            let number = number.as_f64().context("no number")?;
            match to.len() {
                4 => to.copy_from_slice(&(number as f32).to_ne_bytes()),
                8 => to.copy_from_slice(&number.to_ne_bytes()),
                len => bail!("a floating-point number of {len} bytes"),
            }
            Ok(())
        }
        (Kind::ARRAY, Value::String(text)) => {
            ensure!(text.len() <= to.len(), "`{text}` does not fit {} bytes", to.len());
            to.fill(0);
            to.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
            Ok(())
        }
        (Kind::ARRAY, Value::Array(values)) => {
            let array = ty.array().context("an array")?;
            let size = btf.resolve_size(array.element)?.max(1) as usize;
            ensure!(
                values.len() <= array.len as usize,
                "{} elements, where there are {}",
                values.len(),
                array.len
            );
            to.chunks_mut(size)
                .zip(values)
                .try_for_each(|(to, value)| write(btf, array.element, value, to, depth + 1))
        }
        (Kind::STRUCT | Kind::UNION, Value::Object(members)) => {
            for (name, value) in members {
                let member = ty.members().find(|member| member.name() == name.as_str());
                let member = member.with_context(|| format!("`{}` has no member `{name}`", ty.name()))?;
                ensure!(
                    member.bitfield_size == 0,
                    "member `{name}` is a bit field: give the whole value in hexadecimal digits"
                );
                let at = member.bit_offset as usize / 8;
                let size = btf.resolve_size(member.type_id)? as usize;
                let to = to.get_mut(at..at.saturating_add(size)).context("a member beyond its structure")?;
                write(btf, member.type_id, value, to, depth + 1)
                    .with_context(|| format!("member `{name}`"))?;
            }
            Ok(())
        }
        // The variables of a section.
        (Kind::DATASEC, Value::Object(variables)) => {
            for (name, value) in variables {
                let known = ty.vars().find_map(|known| {
                    let variable = btf.ty(known.type_id).ok()?;
                    (variable.name() == name.as_str()).then_some((known, variable))
                });
                let (known, variable) =
                    known.with_context(|| format!("`{}` has no variable `{name}`", ty.name()))?;
                let at = known.offset as usize;
                let to = to.get_mut(at..at.saturating_add(known.size as usize));
                let to = to.context("a variable beyond its section")?;
                write(btf, variable.type_id(), value, to, depth + 1)
                    .with_context(|| format!("variable `{name}`"))?;
            }
            Ok(())
        }
        // Any value may be given as its bytes.
        (_, Value::String(text)) => {
            let told = unhex(text)?;
            ensure!(told.len() == to.len(), "{} bytes, where there are {}", told.len(), to.len());
            to.copy_from_slice(&told);
            Ok(())
        }
        (kind, other) => bail!("`{other}` is no {kind}"),
    }
}
