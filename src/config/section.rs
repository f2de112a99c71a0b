//! How a section of settings is declared: one macro gives the type, its defaults, its reader and its documentation, so
//! that none of the four can forget a setting.

use figment::Figment;
use figment::value::Value;

use super::value::SettingValue;

/// What is known of one setting beside its value.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Section of the file it stands in.
    pub section: &'static str,
    /// Its name in the section.
    pub field: &'static str,
    /// Environment variables it may be set by, besides those made from section and field.
    pub bare_variables: &'static [&'static str],
    /// What it does.
    pub meaning: &'static str,
    /// What may be written.
    pub allowed: &'static str,
    /// What it is when nobody sets it; `null` when that is nothing, or found out on the machine.
    pub default: serde_json::Value,
    /// Its value is not shown.
    pub secret: bool,
}

impl Setting {
    /// `section.field`, as in `--set` and in error messages.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.field)
    }
}

/// Collects what is wrong with the values of a section.
#[derive(Debug, Default)]
pub struct Check {
    /// Section that is being looked at.
    pub(super) section: &'static str,
    /// Found so far.
    pub(super) problems: Vec<Problem>,
}

/// One wrong setting.
#[derive(Debug)]
pub(super) struct Problem {
    /// `section.field`.
    pub path: String,
    pub message: String,
    pub remedy: String,
}

impl Check {
    /// Notes that `field` is wrong unless `right`. `message` continues the setting's name: "is 0".
    pub fn that(&mut self, right: bool, field: &str, message: impl Into<String>, remedy: impl Into<String>) {
        if !right {
            let path = format!("{}.{field}", self.section);
            self.problems.push(Problem { path, message: message.into(), remedy: remedy.into() });
        }
    }

    /// Reads one field out of the merged layers; its default when it cannot be read, so that the rest is looked at too.
    pub(super) fn read<T: SettingValue>(&mut self, figment: &Figment, field: &str, default: T, allowed: &str) -> T {
        let value: Value = match figment.find_value(&format!("{}.{field}", self.section)) {
            Ok(value) => value,
            Err(_) => return default,
        };
        T::from_value(&value).unwrap_or_else(|message| {
            self.that(false, field, message, format!("allowed: {allowed}"));
            default
        })
    }
}

/// Declares a section: `name: type = default, also "VARIABLE"…, within "what of the type is allowed", secret true;` for each
/// setting.
macro_rules! section {
    (@allowed $value:ty) => { <$value as $crate::config::value::SettingValue>::ALLOWED };
    (@allowed $value:ty, $within:literal) => { $within };
    (
        $(#[doc = $about:literal])*
        pub struct $type:ident in $section:literal {
            $( $(#[doc = $meaning:literal])+ $field:ident: $value:ty = $default:expr $(, also $($alias:literal)+)? $(, within $within:literal)? $(, secret $secret:literal)?; )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone)]
        pub struct $type {
            $( $(#[doc = $meaning])+ pub $field: $value, )*
        }

        impl Default for $type {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $type {
            /// The settings of the section.
            pub(super) fn settings() -> Vec<$crate::config::section::Setting> {
                use $crate::config::value::SettingValue;
                let default = Self::default();
                vec![ $( $crate::config::section::Setting {
                    section: $section,
                    field: stringify!($field),
                    bare_variables: &[ $( $($alias),+ )? ],
                    meaning: concat!($($meaning),+).trim_ascii(),
                    allowed: section!(@allowed $value $(, $within)?),
                    default: default.$field.to_json(),
                    secret: false $( || $secret )?,
                }, )* ]
            }

            /// Reads the section out of the merged layers and checks its rules.
            pub(super) fn read(figment: &figment::Figment, check: &mut $crate::config::section::Check) -> Self {
                check.section = $section;
                let default = Self::default();
                let read = Self { $(
                    $field: check.read(figment, stringify!($field), default.$field, section!(@allowed $value $(, $within)?)),
                )* };
                // A value that could not be read has been replaced by its default, which breaks no rule.
                read.validate(check);
                read
            }

            /// The values by name.
            pub(super) fn values(&self) -> Vec<serde_json::Value> {
                use $crate::config::value::SettingValue;
                vec![ $( self.$field.to_json(), )* ]
            }
        }
    };
}
pub(super) use section;
