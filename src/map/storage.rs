//! What the kinds of local storage have in common.

/// The operations of a view of local storage: `$owner` is what values belong to, `$errors` what other descriptors
/// answer.
macro_rules! storage {
    ($view:ident, $kind:expr, $owner:literal, $errors:literal) => {
        // The kernel takes descriptors as keys, so the key type is that of descriptors.
        view!($view<V>, $kind, i32, V);

        impl<V: PlainData> $view<V> {
            #[doc = concat!("The value of a ", $owner, ", if it has one.")]
            ///
            /// # Errors
            #[doc = concat!("[`MapError::Failed`]: ", $errors, ".")]
            pub fn get(&self, owner: impl AsFd) -> Result<Option<V>, MapError> {
                self.get_with(owner, UpdateFlags::empty())
            }

            #[doc = concat!("As [`get`](", stringify!($view), "::get), with flags: [`UpdateFlags::LOCK`] reads under")]
            /// the value's spin lock.
            ///
            /// # Errors
            #[doc = concat!("As [`get`](", stringify!($view), "::get), and of kind")]
            /// [`Invalid`](super::MapErrorKind::Invalid) for a value without a lock.
            pub fn get_with(&self, owner: impl AsFd, flags: UpdateFlags) -> Result<Option<V>, MapError> {
                let mut value = V::new_zeroed();
                let found = self.map.lookup_by_fd(owner, value.as_mut_bytes(), flags)?;
                Ok(found.then_some(value))
            }

            #[doc = concat!("Reads the value of a ", $owner, " into `value`, for values that are too large to be")]
            /// moved. Answers whether it has one; if not, `value` is as before.
            ///
            /// # Errors
            #[doc = concat!("As [`get`](", stringify!($view), "::get).")]
            pub fn get_into(&self, owner: impl AsFd, value: &mut V) -> Result<bool, MapError> {
                self.map.lookup_by_fd(owner, value.as_mut_bytes(), UpdateFlags::empty())
            }

            #[doc = concat!("Writes the value of a ", $owner, ": whether or not it has one, unless the flags say")]
            /// otherwise.
            ///
            /// # Errors
            #[doc = concat!("[`MapError::Failed`]: ", $errors, "; of kind")]
            /// [`Exists`](super::MapErrorKind::Exists) with [`UpdateFlags::NOEXIST`],
            /// [`NotFound`](super::MapErrorKind::NotFound) with [`UpdateFlags::EXIST`],
            /// [`Denied`](super::MapErrorKind::Denied) for a frozen map.
            pub fn insert(&self, owner: impl AsFd, value: &V, flags: UpdateFlags) -> Result<(), MapError> {
                self.map.update_by_fd(owner, value.as_bytes(), flags)
            }

            #[doc = concat!("Removes the value of a ", $owner, ". Answers whether it had one.")]
            ///
            /// # Errors
            #[doc = concat!("[`MapError::Failed`]: ", $errors, ".")]
            pub fn remove(&self, owner: impl AsFd) -> Result<bool, MapError> {
                self.map.delete_by_fd(owner)
            }
        }
    };
}
pub(super) use storage;
