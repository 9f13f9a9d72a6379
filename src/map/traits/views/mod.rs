//! What the views of a kernel's maps have, kind by kind.

mod data;
mod objects;

/// Looking up.
macro_rules! read {
    ([$($generics:tt)*] $view:ty: $key:ty => $value:ty, |$map:ident, $at:ident| $get:expr) => {
        impl<$($generics)*> MapRead<$key, $value> for $view {
            fn get(&self, $at: &$key) -> Result<Option<$value>, MapError> {
                let $map = self;
                $get
            }
        }
    };
}

/// Writing.
macro_rules! write {
    ([$($generics:tt)*] $view:ty: $key:ty => $value:ty, |$map:ident, $at:ident, $what:ident, $flags:ident| $set:expr) => {
        impl<$($generics)*> MapWrite<$key, $value> for $view {
            fn insert(&self, $at: &$key, $what: &$value, $flags: UpdateFlags) -> Result<(), MapError> {
                let $map = self;
                $set
            }
        }
    };
}

/// Removing.
macro_rules! remove {
    ([$($generics:tt)*] $view:ty: $key:ty, |$map:ident, $at:ident| $remove:expr) => {
        impl<$($generics)*> MapRemove<$key> for $view {
            fn remove(&self, $at: &$key) -> Result<bool, MapError> {
                let $map = self;
                $remove
            }
        }
    };
}

/// Going through all elements of an iterator.
macro_rules! visit {
    ([$($generics:tt)*] $view:ty: $key:ty => $value:ty, |$map:ident| $iter:expr) => {
        impl<$($generics)*> MapIter<$key, $value> for $view {
            fn visit(&self, each: &mut dyn FnMut($key, $value) -> ControlFlow<()>) -> Result<(), MapError> {
                let $map = self;
                for element in $iter {
                    let (key, value) = element?;
                    if each(key, value).is_break() {
                        break;
                    }
                }
                Ok(())
            }
        }
    };
}

use {read, remove, visit, write};
