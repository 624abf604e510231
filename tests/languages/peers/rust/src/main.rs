// SPDX-License-Identifier: BSD-2-Clause
// Rust, tonic: serve PORT [CERT KEY] | call PORT [CERT] | outlive PORT [CERT]
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process};
use http_body_util::BodyExt;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::signal::unix::{signal, SignalKind};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::metadata::{KeyAndValueRef, MetadataMap, MetadataValue};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};

mod pb {
    tonic::include_proto!("notnets.languages");
}
use pb::echo_client::EchoClient;
use pb::echo_server::{Echo, EchoServer};
use pb::{Load, Nothing, Order, Sum};

const MISSING: &str = "no such load: ☃";

fn check(load: &Load) -> Result<(), Status> {
    if crc32fast::hash(&load.data) == load.crc {
        Ok(())
    } else {
        Err(Status::data_loss("wrong checksum"))
    }
}

#[derive(Default)]
struct Adder {
    crc: crc32fast::Hasher,
    sum: Sum,
}

impl Adder {
    fn add(&mut self, load: &Load) {
        self.crc.update(&load.data);
        self.sum.messages += 1;
        self.sum.bytes += load.data.len() as u64;
    }

    fn sum(mut self) -> Sum {
        self.sum.crc = self.crc.finalize();
        self.sum
    }
}

fn echoed(metadata: &MetadataMap) -> MetadataMap {
    let mut back = MetadataMap::new();
    for pair in metadata.iter() {
        match pair {
            KeyAndValueRef::Ascii(key, value) if key.as_str() == "x-text" => {
                back.append(key.clone(), value.clone());
            }
            KeyAndValueRef::Binary(key, value) if key.as_str() == "x-bytes-bin" => {
                back.append_bin(key.clone(), value.clone());
            }
            _ => {}
        }
    }
    back
}

// ---- server ----

static GIVEN_UP: AtomicU32 = AtomicU32::new(0);

struct Service;
struct CountsWhenDropped;

impl Drop for CountsWhenDropped {
    fn drop(&mut self) {
        GIVEN_UP.fetch_add(1, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl Echo for Service {
    type DealStream = ReceiverStream<Result<Load, Status>>;
    type TalkStream = Pin<Box<dyn Stream<Item = Result<Load, Status>> + Send>>;

    async fn unary(&self, request: Request<Load>) -> Result<Response<Load>, Status> {
        let metadata = echoed(request.metadata());
        let load = request.into_inner();
        if load.number == 404 {
            return Err(Status::not_found(MISSING));
        }
        check(&load)?;
        Ok(Response::from_parts(metadata, load, Default::default()))
    }

    async fn collect(&self, request: Request<Streaming<Load>>) -> Result<Response<Sum>, Status> {
        let mut loads = request.into_inner();
        let mut adder = Adder::default();
        while let Some(load) = loads.message().await? {
            check(&load)?;
            adder.add(&load);
        }
        Ok(Response::new(adder.sum()))
    }

    async fn deal(&self, request: Request<Order>) -> Result<Response<Self::DealStream>, Status> {
        let order = request.into_inner();
        let load = order.load.unwrap_or_default();
        check(&load)?;
        let (out, stream) = mpsc::channel(4);
        tokio::spawn(async move {
            for number in 0..order.times {
                if out.send(Ok(Load { number, ..load.clone() })).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn talk(&self, request: Request<Streaming<Load>>) -> Result<Response<Self::TalkStream>, Status> {
        Ok(Response::new(Box::pin(request.into_inner().map(|load| load.and_then(|l| check(&l).map(|()| l))))))
    }

    async fn wait(&self, _: Request<Nothing>) -> Result<Response<Nothing>, Status> {
        let _counts = CountsWhenDropped;
        std::future::pending().await
    }

    async fn given_up(&self, _: Request<Nothing>) -> Result<Response<Sum>, Status> {
        Ok(Response::new(Sum { messages: GIVEN_UP.load(Ordering::SeqCst), ..Default::default() }))
    }
}

/// tonic has no way to add trailers to a unary reply: what is echoed in the headers is added to the body's.
fn with_trailers(response: http::Response<Body>) -> http::Response<Body> {
    let mut back = http::HeaderMap::new();
    for key in ["x-text", "x-bytes-bin"] {
        if let Some(value) = response.headers().get(key) {
            back.insert(key, value.clone());
        }
    }
    response.map(|body| {
        Body::new(body.map_frame(move |mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                trailers.extend(back.clone());
            }
            frame
        }))
    })
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn serve(port: &str, tls: Option<(&String, &String)>) -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    let mut builder = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_millis(200)))
        .layer(tower::util::MapResponseLayer::new(with_trailers));
    if let Some((cert, key)) = tls {
        builder = builder.tls_config(ServerTlsConfig::new().identity(Identity::from_pem(fs::read(cert)?, fs::read(key)?)))?;
    }
    println!("PORT {}", listener.local_addr()?.port());
    let mut end = signal(SignalKind::terminate())?;
    let service = EchoServer::new(Service).max_decoding_message_size(usize::MAX);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    builder.add_service(service).serve_with_incoming_shutdown(incoming, async move { end.recv().await.unwrap_or(()) }).await?;
    Ok(())
}

// ---- client ----

type Client = EchoClient<Channel>;

fn require(holds: bool, what: impl std::fmt::Display) {
    if !holds {
        println!("failed: {what}");
        process::exit(1);
    }
}

fn load_of(size: usize, number: u32) -> Load {
    static BLOCK: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
        let mut x = 1u32;
        (0..65521)
            .map(|_| {
                x = x.wrapping_mul(1103515245).wrapping_add(12345);
                (x >> 16) as u8
            })
            .collect()
    });
    let mut data = Vec::with_capacity(size);
    let mut from = number as usize % BLOCK.len();
    while data.len() < size {
        data.extend_from_slice(&BLOCK[from..BLOCK.len().min(from + size - data.len())]);
        from = 0;
    }
    Load { crc: crc32fast::hash(&data), data, number }
}

fn require_same(got: &Load, sent: &Load) {
    require(
        got == sent,
        format!("load {} of {} bytes, not {} of {}", got.number, got.data.len(), sent.number, sent.data.len()),
    );
}

async fn unary(client: &mut Client, size: usize, number: u32) -> Result<(), Status> {
    let load = load_of(size, number);
    require_same(client.unary(load.clone()).await?.get_ref(), &load);
    Ok(())
}

/// A conversation, one message at a time.
struct Talk {
    outgoing: Option<mpsc::UnboundedSender<Load>>,
    incoming: Streaming<Load>,
}

impl Talk {
    async fn new(client: &mut Client) -> Result<Talk, Status> {
        let (outgoing, stream) = mpsc::unbounded_channel();
        // Some servers send their headers with the first answer only.
        outgoing.send(load_of(0, 0)).unwrap();
        let incoming = client.talk(UnboundedReceiverStream::new(stream)).await?.into_inner();
        let mut talk = Talk { outgoing: Some(outgoing), incoming };
        talk.expect(&load_of(0, 0)).await?;
        Ok(talk)
    }

    fn write(&self, load: Load) {
        require(self.outgoing.as_ref().unwrap().send(load).is_ok(), "cannot write");
    }

    async fn expect(&mut self, load: &Load) -> Result<(), Status> {
        match self.incoming.message().await? {
            Some(got) => require_same(&got, load),
            None => require(false, "the conversation ended"),
        }
        Ok(())
    }

    async fn exchange(&mut self, size: usize, number: u32) -> Result<(), Status> {
        let load = load_of(size, number);
        self.write(load.clone());
        self.expect(&load).await
    }

    async fn end(&mut self) -> Result<(), Status> {
        self.outgoing = None;
        require(self.incoming.message().await?.is_none(), "more than was sent");
        Ok(())
    }
}

async fn sizes(client: &mut Client) -> Result<(), Status> {
    for size in [0, 1, 100, 16383, 65536, 1048577, 4194304, 67108864] {
        unary(client, size, 0).await?;
    }
    Ok(())
}

async fn many(client: &mut Client) -> Result<(), Status> {
    for i in 0..200 {
        unary(client, i, i as u32).await?;
    }
    Ok(())
}

async fn collect(client: &mut Client) -> Result<(), Status> {
    let loads: Vec<_> = (0..100).map(|i| load_of(i * i * 37 % 50000, i as u32)).collect();
    let mut adder = Adder::default();
    loads.iter().for_each(|load| adder.add(load));
    let sum = client.collect(tokio_stream::iter(loads)).await?.into_inner();
    require(sum == adder.sum(), "another sum");
    Ok(())
}

async fn deal(client: &mut Client) -> Result<(), Status> {
    let load = load_of(10000, 0);
    let mut loads = client.deal(Order { load: Some(load.clone()), times: 200 }).await?.into_inner();
    let mut number = 0;
    while let Some(got) = loads.message().await? {
        require_same(&got, &Load { number, ..load.clone() });
        number += 1;
    }
    require(number == 200, format!("{number} loads"));
    Ok(())
}

async fn talk(client: &mut Client) -> Result<(), Status> {
    let mut talk = Talk::new(client).await?;
    for i in 0..50 {
        talk.exchange(i * 101, i as u32).await?;
    }
    for i in 0..100 {
        talk.write(load_of(20000, i));
    }
    for i in 0..100 {
        talk.expect(&load_of(20000, i)).await?;
    }
    talk.end().await
}

async fn parallel(client: &mut Client) -> Result<(), Status> {
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..8 {
        let mut client = client.clone();
        tasks.spawn(async move {
            unary(&mut client, 500000, i).await?;
            unary(&mut client, 500000, i + 8).await
        });
    }
    for result in tasks.join_all().await {
        result?;
    }
    Ok(())
}

async fn metadata(client: &mut Client) -> Result<(), Status> {
    let text = "t".repeat(2000);
    let bytes: Vec<u8> = (0..1024).map(|i| i as u8).collect();
    let mut request = Request::new(load_of(10, 0));
    request.metadata_mut().insert("x-text", text.parse().unwrap());
    request.metadata_mut().insert_bin("x-bytes-bin", MetadataValue::from_bytes(&bytes));
    let response = client.unary(request).await?;
    let back = response.metadata(); // headers and trailers in one
    require(
        back.get("x-text").is_some_and(|value| value == &text)
            && back.get_bin("x-bytes-bin").is_some_and(|value| value.to_bytes().is_ok_and(|b| b[..] == bytes[..])),
        "other metadata",
    );
    Ok(())
}

async fn failure(client: &mut Client) -> Result<(), Status> {
    let status = client.unary(load_of(10, 404)).await.expect_err("no status");
    require(status.code() == Code::NotFound && status.message() == MISSING, status);
    Ok(())
}

async fn count_given_up(client: &mut Client) -> Result<u32, Status> {
    Ok(client.given_up(Nothing {}).await?.into_inner().messages)
}

async fn await_given_up(client: &mut Client, count: u32) -> Result<(), Status> {
    for _ in 0..500 {
        if count_given_up(client).await? >= count {
            return Ok(());
        }
        sleep(Duration::from_millis(10)).await;
    }
    require(false, "the server does not notice that a call was given up");
    Ok(())
}

// The client is first to give up, well before the server: where they meet, h2 takes what gRPC C++ says for an error of protocol, on
// TCP too, and ends the connection.
async fn deadline(client: &mut Client) -> Result<(), Status> {
    let before = count_given_up(client).await?;
    let mut request = Request::new(Nothing {});
    request.set_timeout(Duration::from_secs(10));
    require(tokio::time::timeout(Duration::from_millis(200), client.wait(request)).await.is_err(), "an answer");
    await_given_up(client, before + 1).await
}

async fn cancel(client: &mut Client) -> Result<(), Status> {
    let before = count_given_up(client).await?;
    require(tokio::time::timeout(Duration::from_millis(100), client.wait(Nothing {})).await.is_err(), "an answer");
    await_given_up(client, before + 1).await?;
    let mut talk = Talk::new(client).await?;
    talk.exchange(1000, 0).await
}

async fn keepalive(client: &mut Client) -> Result<(), Status> {
    let mut talk = Talk::new(client).await?;
    for i in 0..2 {
        talk.exchange(1000, i).await?;
        sleep(Duration::from_millis(600)).await;
    }
    talk.end().await?;
    sleep(Duration::from_millis(600)).await;
    unary(client, 1000, 0).await
}

async fn again(client: &mut Client) -> Result<(), Status> {
    for i in 0.. {
        let mut request = Request::new(load_of(1000, 0));
        request.set_timeout(Duration::from_secs(5));
        match client.unary(request).await {
            Err(status) if i == 100 => return Err(status),
            Err(_) => sleep(Duration::from_millis(100)).await,
            Ok(_) => break,
        }
    }
    Ok(())
}

async fn outlive(client: &mut Client) -> Result<(), Failure> {
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    let mut talk = Talk::new(client).await?;
    println!("hold");
    while let Some(command) = commands.next_line().await? {
        match command.as_str() {
            "hold" => talk = Talk::new(client).await?,
            "finish" => {
                for i in 0..20 {
                    talk.exchange(i * 1000, i as u32).await?;
                }
                talk.end().await?;
            }
            "lost" => require(talk.incoming.message().await.is_err(), "an orderly end from a dead server"),
            _ => {
                again(client).await?;
                many(client).await?;
            }
        }
        println!("{command}");
    }
    Ok(())
}

async fn call(client: &mut Client) -> Result<(), Failure> {
    macro_rules! play {
        ($($case:ident)*) => {
            $(
                let begun = Instant::now();
                $case(client).await.map_err(|status| format!("{}: {status}", stringify!($case)))?;
                println!("{} {} ms", stringify!($case), begun.elapsed().as_millis());
            )*
        };
    }
    play!(sizes many collect deal talk parallel metadata failure deadline cancel keepalive);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = env::args().skip(1).collect();
    let (verb, port) = (words[0].as_str(), words[1].as_str());
    if verb == "serve" {
        return serve(port, words.get(2).zip(words.get(3))).await;
    }
    let scheme = if words.len() > 2 { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://127.0.0.1:{port}"))?
        .http2_keep_alive_interval(Duration::from_millis(150))
        .keep_alive_while_idle(true);
    if let Some(cert) = words.get(2) {
        endpoint = endpoint.tls_config(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(fs::read(cert)?)))?;
    }
    let mut client = EchoClient::new(endpoint.connect_lazy()).max_decoding_message_size(usize::MAX);
    let end = if verb == "outlive" { outlive(&mut client).await } else { call(&mut client).await };
    if let Err(error) = end {
        require(false, error);
    }
    Ok(())
}
