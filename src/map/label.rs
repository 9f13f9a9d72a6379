use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use skep_sys::abi::{MapId, MapType};

/// What errors call a map: its name in quotation marks, or, where it has none, what else tells it from others.
///
/// Displayed, it follows the word "map".
///
/// ```
/// use skep::map::{HashMap, Map, MapLabel};
/// use skep::sys::abi::MapType;
/// use skep::sys::request::MapCreate;
///
/// let label = MapLabel::from("flows");
/// assert_eq!((label.to_string().as_str(), label.as_str()), ("`flows`", "flows"));
///
/// // A map that was made without a name goes by its id.
/// let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::ARRAY, 4, 8, 16))?;
/// let error = map.typed::<HashMap<u32, u64>>().unwrap_err();
/// let id = map.id()?;
/// assert_eq!(error.to_string(), format!("map with id {id} is of type array, and HashMap takes hash or lru_hash"));
/// # Ok::<(), skep::map::MapError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MapLabel {
    /// As it is displayed, since errors hold it and are to be small. Only names begin with a quotation mark.
    text: Arc<str>,
}

const QUOTE: char = '`';

impl MapLabel {
    /// Its name, or what it is called without one.
    pub fn as_str(&self) -> &str {
        let name = self.text.strip_prefix(QUOTE).and_then(|text| text.strip_suffix(QUOTE));
        name.unwrap_or(&self.text)
    }

    /// Whether it is the map's name.
    pub fn is_name(&self) -> bool {
        self.text.starts_with(QUOTE)
    }

    fn described(text: String) -> MapLabel {
        MapLabel { text: text.into() }
    }

    /// Of a map by its id.
    pub(super) fn with_id(id: MapId) -> MapLabel {
        MapLabel::described(format!("with id {id}"))
    }

    /// Of a map by where it is pinned.
    pub(super) fn at(path: &std::path::Path) -> MapLabel {
        MapLabel::described(format!("at {}", path.display()))
    }

    /// Of a map that came as a descriptor.
    pub(super) fn from_descriptor() -> MapLabel {
        MapLabel::described("from a descriptor".to_owned())
    }

    /// Of a map by its name, or by its kind where it has neither name nor id.
    pub(super) fn of(name: &str, map_type: MapType) -> MapLabel {
        if name.is_empty() {
            MapLabel::described(format!("of type {map_type} without a name"))
        } else {
            MapLabel::from(name)
        }
    }
}

impl fmt::Display for MapLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Deref for MapLabel {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<&str> for MapLabel {
    fn from(name: &str) -> MapLabel {
        MapLabel { text: format!("{QUOTE}{name}{QUOTE}").into() }
    }
}

impl From<String> for MapLabel {
    fn from(name: String) -> MapLabel {
        MapLabel::from(name.as_str())
    }
}

impl From<Arc<str>> for MapLabel {
    fn from(name: Arc<str>) -> MapLabel {
        MapLabel::from(&*name)
    }
}
