//! A way to the cluster that a test can cut or silence: a forwarder on loopback, and a file that leads through it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::kubernetes::Namespace;

/// The way; whole at first.
pub struct Way {
    /// The file that leads through it.
    pub kubeconfig: PathBuf,
    address: SocketAddr,
    server: SocketAddr,
    silent: watch::Sender<bool>,
    forwarder: Mutex<Option<JoinHandle<()>>>,
    _folder: tempfile::TempDir,
}

impl Way {
    /// A way to the cluster of this namespace, whose server must be reached by an address.
    pub async fn to(namespace: &Namespace) -> Self {
        let text = std::fs::read_to_string(namespace.kubeconfig()).unwrap();
        let (_, rest) = text.split_once("https://").expect("the file names a server");
        let server: String = rest.chars().take_while(|letter| letter.is_ascii_digit() || ".:".contains(*letter)).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, text.replace(&server, &address.to_string())).unwrap();
        let server = server.parse().unwrap();
        let silent = watch::Sender::new(false);
        let forwarder = Mutex::new(Some(forward(listener, server, silent.subscribe())));
        Self { kubeconfig, address, server, silent, forwarder, _folder: folder }
    }

    /// Cuts it: connections break, and there is nobody to connect to.
    pub fn cut(&self) {
        let forwarder = self.forwarder.lock().unwrap().take();
        forwarder.expect("it was whole").abort();
    }

    /// Mends it.
    pub async fn mend(&self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        *self.forwarder.lock().unwrap() = Some(forward(listener, self.server, self.silent.subscribe()));
    }

    /// Swallows everything: connections stand, those made before and those made now, and nothing ever comes of them.
    pub fn silence(&self) {
        self.silent.send_replace(true);
    }

    /// Leads there again, for connections that are made from now on.
    pub fn speak(&self) {
        self.silent.send_replace(false);
    }
}

fn forward(listener: TcpListener, server: SocketAddr, silent: watch::Receiver<bool>) -> JoinHandle<()> {
    tokio::spawn(async move {
        // They end with this task.
        let mut connections = JoinSet::new();
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut silent = silent.clone();
            connections.spawn(async move {
                let Ok(mut server) = TcpStream::connect(server).await else { return };
                let silenced = async { drop(silent.wait_for(|silent| *silent).await) };
                tokio::select! {
                    biased;
                    () = silenced => std::future::pending::<()>().await,
                    // Either side may end it in whichever way.
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                }
            });
        }
    })
}
