//! Where the fields of a tracepoint's record are.

use super::outcome::EventError;
use crate::image::{FieldValue, ImageError, KernelObject};
use crate::kernel::SimKernel;

/// Fields of a tracepoint.
pub(super) struct Layout<'k> {
    name: String,
    source: Source<'k>,
}

enum Source<'k> {
    /// A struct of the kernel's BTF.
    Type(&'k SimKernel, String),
    /// What a `format` file tells.
    Fields(Vec<Field>),
}

struct Field {
    name: String,
    offset: usize,
    size: usize,
    /// Elements of an array that is not of bytes.
    element: usize,
    dynamic: bool,
}

/// Tracepoints whose struct has another name, since they share it (`DEFINE_EVENT`).
const SHARED: &[(&str, &str)] = &[
    ("sched_wakeup", "sched_wakeup_template"),
    ("sched_wakeup_new", "sched_wakeup_template"),
    ("sched_waking", "sched_wakeup_template"),
    ("sched_process_free", "sched_process_template"),
    ("sched_process_exit", "sched_process_template"),
    ("sched_wait_task", "sched_process_template"),
    ("sched_stat_wait", "sched_stat_template"),
    ("sched_stat_sleep", "sched_stat_template"),
    ("sched_stat_iowait", "sched_stat_template"),
    ("sched_stat_blocked", "sched_stat_template"),
    ("softirq_entry", "softirq"),
    ("softirq_exit", "softirq"),
    ("softirq_raise", "softirq"),
    ("block_rq_insert", "block_rq"),
    ("block_rq_issue", "block_rq"),
    ("block_rq_merge", "block_rq"),
    ("block_rq_complete", "block_rq_completion"),
    ("block_rq_error", "block_rq_completion"),
    ("kmalloc", "kmalloc"),
    ("mm_page_alloc", "mm_page_alloc"),
    ("tcp_send_reset", "tcp_send_reset"),
    ("tcp_retransmit_skb", "tcp_event_sk_skb"),
    ("tcp_receive_reset", "tcp_event_sk"),
    ("tcp_destroy_sock", "tcp_event_sk"),
    ("tcp_rcv_space_adjust", "tcp_event_sk"),
    ("netif_rx", "net_dev_template"),
    ("netif_receive_skb", "net_dev_template"),
    ("net_dev_queue", "net_dev_template"),
    ("cpu_frequency", "cpu"),
    ("cpu_idle", "cpu"),
];

impl<'k> Layout<'k> {
    /// What is known of a tracepoint. `None` when it is nothing.
    pub(super) fn find(
        kernel: &'k SimKernel,
        category: &str,
        name: &str,
        format: Option<&str>,
        type_name: Option<&str>,
    ) -> Result<Option<Layout<'k>>, EventError> {
        let make = |source| Some(Layout { name: format!("{category}/{name}"), source });
        if let Some(text) = format {
            return Ok(make(Source::Fields(fields(text))));
        }
        if category == "syscalls" && type_name.is_none() {
            let enters = name.starts_with("sys_enter");
            let last = if enters { ("args", 16, 48, 8) } else { ("ret", 16, 8, 0) };
            let known = [("__syscall_nr", 8, 8, 0), last];
            let known = known.map(|(name, offset, size, element)| Field {
                name: name.to_owned(),
                offset,
                size,
                element,
                dynamic: false,
            });
            return Ok(make(Source::Fields(known.into())));
        }
        if let Some(name) = type_name {
            return Ok(make(Source::Type(kernel, name.to_owned())));
        }
        let shared = SHARED.iter().find(|(event, _)| *event == name).map(|(_, class)| *class);
        let names = [Some(name), shared];
        let structs = names.into_iter().flatten().map(|name| format!("trace_event_raw_{name}"));
        let found = structs.into_iter().find(|name| kernel.0.type_named(name).is_ok());
        Ok(found.and_then(|name| make(Source::Type(kernel, name))))
    }

    /// The bytes of a record with these fields.
    pub(super) fn record(&self, values: &[(String, FieldValue<'static>)]) -> Result<Vec<u8>, EventError> {
        match &self.source {
            Source::Type(kernel, name) => self.typed(kernel, name, values),
            Source::Fields(fields) => self.by_fields(fields, values),
        }
    }

    fn image_error(&self, source: ImageError) -> EventError {
        let what = format!("tracepoint {} cannot have these fields", self.name);
        EventError::Image { what, source: Box::new(source) }
    }

    fn typed(
        &self,
        kernel: &SimKernel,
        name: &str,
        values: &[(String, FieldValue<'static>)],
    ) -> Result<Vec<u8>, EventError> {
        let object = kernel.memory().object(name).map_err(|error| self.image_error(error))?;
        let mut behind = Vec::new();
        let size = object.size().map_err(|error| self.image_error(error))? as usize;
        for (field, value) in values {
            self.set(&object, field, value, size, &mut behind).map_err(|error| self.image_error(error))?;
        }
        let mut record = object.bytes("").map_err(|error| self.image_error(error))?;
        record.extend(behind);
        Ok(record)
    }

    fn set(
        &self,
        object: &KernelObject,
        field: &str,
        value: &FieldValue<'static>,
        size: usize,
        behind: &mut Vec<u8>,
    ) -> Result<(), ImageError> {
        if let Some(bytes) = value.dynamic() {
            let location = format!("__data_loc_{field}");
            let at = size + behind.len();
            let there = (bytes.len() as u64) << 16 | at as u64 & 0xffff;
            match object.set(&location, there) {
                Ok(_) => {
                    behind.extend(bytes);
                    return Ok(());
                }
                Err(ImageError::NoMember { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        object.set(field, value.clone()).map(drop)
    }

    fn by_fields(
        &self,
        fields: &[Field],
        values: &[(String, FieldValue<'static>)],
    ) -> Result<Vec<u8>, EventError> {
        let size = fields.iter().map(|field| field.offset + field.size).max().unwrap_or(8);
        let mut record = vec![0; size];
        for (name, value) in values {
            let (base, index) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
                Some((base, index)) => (base, index.parse::<usize>().ok()),
                None => (name.as_str(), None),
            };
            let field =
                fields.iter().find(|field| field.name == base).ok_or_else(|| EventError::NoField {
                    name: self.name.clone(),
                    field: name.clone(),
                    has: fields.iter().map(|field| field.name.clone()).collect(),
                })?;
            let (mut offset, mut size) = (field.offset, field.size);
            if let Some(index) = index.filter(|_| field.element != 0) {
                offset += field.element.saturating_mul(index).min(size);
                size = field.element.min((field.offset + size).saturating_sub(offset));
            }
            if field.dynamic
                && let Some(bytes) = value.dynamic()
            {
                let there = (bytes.len() as u32) << 16 | record.len() as u32 & 0xffff;
                record.extend(bytes);
                self.put(&mut record, name, offset, size, &FieldValue::from(there))?;
            } else {
                self.put(&mut record, name, offset, size, value)?;
            }
        }
        Ok(record)
    }

    fn put(
        &self,
        record: &mut [u8],
        field: &str,
        offset: usize,
        size: usize,
        value: &FieldValue<'static>,
    ) -> Result<(), EventError> {
        let bytes = value.plain(size).ok_or_else(|| EventError::Field {
            name: self.name.clone(),
            field: field.to_owned(),
            size,
            value: value.to_string(),
        })?;
        for (to, from) in record.iter_mut().skip(offset).zip(bytes) {
            *to = from;
        }
        Ok(())
    }
}

/// Longest record that a tracepoint writes, which a text cannot exceed either.
const RECORD_MAX: usize = 8192;

/// The fields of a `format` file, without those that all tracepoints have.
fn fields(text: &str) -> Vec<Field> {
    let mut fields = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix("field:") else { continue };
        let mut parts = rest.split(';').map(str::trim);
        let declaration = parts.next().unwrap_or_default();
        let mut number = |key: &str| -> Option<usize> {
            parts.next()?.strip_prefix(key)?.strip_prefix(':')?.trim().parse().ok()
        };
        let (Some(offset), Some(size)) = (number("offset"), number("size")) else { continue };
        if offset < 8 || offset.saturating_add(size) > RECORD_MAX {
            continue;
        }
        let dynamic = declaration.starts_with("__data_loc");
        let (declared, count) = match declaration.split_once('[') {
            Some((declared, count)) => {
                (declared, count.split(']').next().unwrap_or_default().parse().unwrap_or(0))
            }
            None => (declaration, 0),
        };
        // A dynamic one is written `__data_loc char[] name`.
        let name = if dynamic { declaration } else { declared };
        let name = name.split_ascii_whitespace().last().unwrap_or_default().trim_start_matches('*');
        let element = size.checked_div(count).unwrap_or(0);
        fields.push(Field { name: name.to_owned(), offset, size, element, dynamic });
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_file_tells_where_fields_are() {
        let text = "name: x\nID: 7\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
            \tfield:__data_loc char[] filename;\toffset:8;\tsize:4;\tsigned:0;\n\
            \tfield:pid_t pid;\toffset:12;\tsize:4;\tsigned:1;\n\
            \tfield:char comm[16];\toffset:16;\tsize:16;\tsigned:0;\n\
            \tfield:unsigned long args[6];\toffset:32;\tsize:48;\tsigned:0;\n\
            \nprint fmt: \"x\"\n";
        let layout = Layout { name: "a/x".to_owned(), source: Source::Fields(fields(text)) };
        let value = |name: &str, value: FieldValue<'static>| (name.to_owned(), value);
        let record = layout.record(&[
            value("filename", "/bin/sh".into()),
            value("pid", (-1).into()),
            value("comm", "sh".into()),
            value("args[5]", 9.into()),
        ]);
        let record = record.expect("the fields are there");
        assert_eq!(record.get(8..12), Some(&(8u32 << 16 | 80).to_ne_bytes()[..]));
        assert_eq!(record.get(12..16), Some(&[0xff; 4][..]));
        assert_eq!(record.get(16..20), Some(&b"sh\0\0"[..]));
        assert_eq!(record.get(72..80), Some(&9u64.to_ne_bytes()[..]));
        assert_eq!(record.get(80..), Some(&b"/bin/sh\0"[..]));
        let error = layout.record(&[value("comm", "sixteen or more bytes".into())]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "field `comm` of tracepoint a/x has 16 bytes, too few for \"sixteen or more bytes\""
        );
    }
}
