//! The REST API, against the running program: on real Podman where containers matter, on a real cluster as well where
//! that could differ, on the memory backend where they do not.

/// Makes two tests of each claim, which takes the running program: one on rootless Podman, one in a cluster. What holds on
/// one of them only is a test by itself, and a row of the table of differences in `BACKEND_STRATEGY.md`.
macro_rules! everywhere {
    ($($claim:ident,)*) => {
        mod on_podman {
            use crate::support::podman;
            use crate::support::product::{Options, Product};
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $claim() {
                    if podman::ready().await {
                        super::$claim(Product::start(Options::podman()).await).await;
                    }
                }
            )*
        }
        mod in_a_cluster {
            use crate::support::kubernetes::Namespace;
            use crate::support::product::{Options, Product};
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $claim() {
                    let Some(namespace) = Namespace::new().await else { return };
                    super::$claim(Product::start(Options::kubernetes(&namespace)).await).await;
                    assert_eq!(namespace.owned().await, Vec::<String>::new(), "left in the cluster");
                }
            )*
        }
    };
}

mod access;
mod aggregate;
mod all_at_once;
mod applying;
mod batches;
mod counts;
mod described;
mod disk_full;
mod documents;
mod errors;
mod event_stream;
mod faults;
mod found_engine;
mod gateway;
mod images;
mod improper;
mod lifecycle;
mod limits;
mod metrics;
mod networks;
mod news;
mod packages;
mod peers;
mod pulls;
mod quick_start;
mod request_ids;
mod sessions;
mod shipped_images;
mod stdio;
mod streams;
mod templates;
mod tools;
mod traefik;
mod traefik_labels;
mod two_managers;
mod unhealthy;
mod volumes;
