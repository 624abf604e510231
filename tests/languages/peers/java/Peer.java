// SPDX-License-Identifier: BSD-2-Clause
// Java, grpc-netty on NIO, or with -Dtransport=epoll on Netty's own native calls:
// serve PORT [CERT KEY] | call PORT [CERT] | outlive PORT [CERT]
import com.google.protobuf.ByteString;
import com.google.protobuf.Message;
import io.grpc.*;
import io.grpc.Channel;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.netty.*;
import io.grpc.protobuf.ProtoUtils;
import io.grpc.stub.*;
import io.netty.channel.*;
import io.netty.channel.epoll.*;
import io.netty.channel.nio.NioIoHandler;
import io.netty.channel.socket.nio.*;
import java.io.*;
import java.net.InetSocketAddress;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;
import java.util.zip.CRC32;
import languages.*;

public final class Peer {
	static final String MISSING = "no such load: ☃";
	static final Metadata.Key<String> TEXT = Metadata.Key.of("x-text", Metadata.ASCII_STRING_MARSHALLER);
	static final Metadata.Key<byte[]> BYTES = Metadata.Key.of("x-bytes-bin", Metadata.BINARY_BYTE_MARSHALLER);
	static final boolean EPOLL = "epoll".equals(System.getProperty("transport"));
	static final MethodDescriptor<Load, Load> UNARY = method("Unary", MethodType.UNARY, Load.getDefaultInstance(), Load.getDefaultInstance());
	static final MethodDescriptor<Load, Sum> COLLECT =
		method("Collect", MethodType.CLIENT_STREAMING, Load.getDefaultInstance(), Sum.getDefaultInstance());
	static final MethodDescriptor<Order, Load> DEAL =
		method("Deal", MethodType.SERVER_STREAMING, Order.getDefaultInstance(), Load.getDefaultInstance());
	static final MethodDescriptor<Load, Load> TALK =
		method("Talk", MethodType.BIDI_STREAMING, Load.getDefaultInstance(), Load.getDefaultInstance());
	static final MethodDescriptor<Nothing, Nothing> WAIT =
		method("Wait", MethodType.UNARY, Nothing.getDefaultInstance(), Nothing.getDefaultInstance());
	static final MethodDescriptor<Nothing, Sum> GIVEN_UP =
		method("GivenUp", MethodType.UNARY, Nothing.getDefaultInstance(), Sum.getDefaultInstance());

	static <A extends Message, B extends Message> MethodDescriptor<A, B> method(String name, MethodType type, A request, B reply) {
		return MethodDescriptor.<A, B>newBuilder(ProtoUtils.marshaller(request), ProtoUtils.marshaller(reply))
			.setType(type).setFullMethodName("notnets.languages.Echo/" + name).build();
	}

	static int crcOf(ByteString data) {
		CRC32 crc = new CRC32();
		crc.update(data.asReadOnlyByteBuffer());
		return (int) crc.getValue();
	}

	static void check(Load load) {
		if (crcOf(load.getData()) != load.getCrc())
			throw Status.DATA_LOSS.withDescription("wrong checksum").asRuntimeException();
	}

	/** Sums loads. */
	static final class Adder {
		final CRC32 crc = new CRC32();
		final Sum.Builder sum = Sum.newBuilder();

		void add(Load load) {
			crc.update(load.getData().asReadOnlyByteBuffer());
			sum.setMessages(sum.getMessages() + 1).setBytes(sum.getBytes() + load.getData().size());
		}

		Sum sum() {
			return sum.setCrc((int) crc.getValue()).build();
		}
	}

	// ---- server ----

	static final AtomicInteger givenUp = new AtomicInteger();

	/** Sends the metadata of a call back, as headers and as trailers. */
	static final class EchoMetadata implements ServerInterceptor {
		@Override
		public <A, B> ServerCall.Listener<A> interceptCall(ServerCall<A, B> call, Metadata headers, ServerCallHandler<A, B> next) {
			Metadata back = new Metadata();
			if (headers.containsKey(TEXT))
				back.put(TEXT, headers.get(TEXT));
			if (headers.containsKey(BYTES))
				back.put(BYTES, headers.get(BYTES));
			return next.startCall(new ForwardingServerCall.SimpleForwardingServerCall<A, B>(call) {
				@Override
				public void sendHeaders(Metadata metadata) {
					metadata.merge(back);
					super.sendHeaders(metadata);
				}

				@Override
				public void close(Status status, Metadata metadata) {
					metadata.merge(back);
					super.close(status, metadata);
				}
			}, headers);
		}
	}

	static <T> void answer(StreamObserver<T> out, T reply) {
		out.onNext(reply);
		out.onCompleted();
	}

	static void unary(Load load, StreamObserver<Load> out) {
		if (load.getNumber() == 404)
			throw Status.NOT_FOUND.withDescription(MISSING).asRuntimeException();
		check(load);
		answer(out, load);
	}

	/** What takes a stream, when each message is handled by `take`. */
	static StreamObserver<Load> taker(StreamObserver<?> out, Consumer<Load> take, Runnable end) {
		return new StreamObserver<>() {
			@Override
			public void onNext(Load load) {
				check(load);
				take.accept(load);
			}

			@Override
			public void onError(Throwable error) {
			}

			@Override
			public void onCompleted() {
				end.run();
			}
		};
	}

	static StreamObserver<Load> collect(StreamObserver<Sum> out) {
		Adder adder = new Adder();
		return taker(out, adder::add, () -> answer(out, adder.sum()));
	}

	static void deal(Order order, StreamObserver<Load> out) {
		check(order.getLoad());
		for (int i = 0; i < order.getTimes(); i++)
			out.onNext(order.getLoad().toBuilder().setNumber(i).build());
		out.onCompleted();
	}

	static StreamObserver<Load> talk(StreamObserver<Load> out) {
		return taker(out, out::onNext, out::onCompleted);
	}

	static void wait(Nothing nothing, StreamObserver<Nothing> out) {
		((ServerCallStreamObserver<Nothing>) out).setOnCancelHandler(givenUp::incrementAndGet);
	}

	/** An exception of a handler becomes the status of its call. */
	static final class ExceptionsAreStatus implements ServerInterceptor {
		@Override
		public <A, B> ServerCall.Listener<A> interceptCall(ServerCall<A, B> call, Metadata headers, ServerCallHandler<A, B> next) {
			return new ForwardingServerCallListener.SimpleForwardingServerCallListener<A>(next.startCall(call, headers)) {
				void guard(Runnable handler) {
					try {
						handler.run();
					} catch (StatusRuntimeException error) {
						call.close(error.getStatus(), new Metadata());
					}
				}

				@Override
				public void onMessage(A message) {
					guard(() -> super.onMessage(message));
				}

				@Override
				public void onHalfClose() {
					guard(super::onHalfClose);
				}
			};
		}
	}

	static void serve(int port, String cert, String key) throws Exception {
		ServerServiceDefinition service = ServerServiceDefinition.builder("notnets.languages.Echo")
			.addMethod(UNARY, ServerCalls.asyncUnaryCall(Peer::unary))
			.addMethod(COLLECT, ServerCalls.asyncClientStreamingCall(Peer::collect))
			.addMethod(DEAL, ServerCalls.asyncServerStreamingCall(Peer::deal))
			.addMethod(TALK, ServerCalls.asyncBidiStreamingCall(Peer::talk))
			.addMethod(WAIT, ServerCalls.asyncUnaryCall(Peer::wait))
			.addMethod(GIVEN_UP, ServerCalls.asyncUnaryCall(
				(Nothing nothing, StreamObserver<Sum> out) -> answer(out, Sum.newBuilder().setMessages(givenUp.get()).build())))
			.build();
		NettyServerBuilder builder = NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", port))
			.channelType(EPOLL ? EpollServerSocketChannel.class : NioServerSocketChannel.class)
			.bossEventLoopGroup(loops(1)).workerEventLoopGroup(loops(2))
			.maxInboundMessageSize(Integer.MAX_VALUE)
			.keepAliveTime(200, TimeUnit.MILLISECONDS)
			.permitKeepAliveTime(50, TimeUnit.MILLISECONDS).permitKeepAliveWithoutCalls(true)
			.addService(ServerInterceptors.intercept(service, new ExceptionsAreStatus(), new EchoMetadata()));
		if (cert != null)
			builder.sslContext(GrpcSslContexts.forServer(new File(cert), new File(key)).build());
		Server server = builder.build().start();
		System.out.println("PORT " + server.getPort());
		CountDownLatch end = new CountDownLatch(1);
		sun.misc.Signal.handle(new sun.misc.Signal("TERM"), number -> end.countDown());
		end.await();
		server.shutdown().awaitTermination(10, TimeUnit.SECONDS);
	}

	static EventLoopGroup loops(int count) {
		return new MultiThreadIoEventLoopGroup(count, EPOLL ? EpollIoHandler.newFactory() : NioIoHandler.newFactory());
	}

	// ---- client ----

	static Channel channel;

	static void require(boolean holds, String what) {
		if (!holds) {
			System.out.println("failed: " + what);
			System.out.flush();
			Runtime.getRuntime().halt(1);
		}
	}

	static final byte[] BLOCK = new byte[65521];
	static {
		int x = 1;
		for (int i = 0; i < BLOCK.length; i++) {
			x = x * 1103515245 + 12345;
			BLOCK[i] = (byte) (x >>> 16);
		}
	}

	static Load loadOf(int size, int number) {
		byte[] bytes = new byte[size];
		for (int at = 0, from = number % BLOCK.length, part; at < size; at += part, from = 0) {
			part = Math.min(size - at, BLOCK.length - from);
			System.arraycopy(BLOCK, from, bytes, at, part);
		}
		ByteString data = ByteString.copyFrom(bytes);
		return Load.newBuilder().setData(data).setCrc(crcOf(data)).setNumber(number).build();
	}

	static void requireSame(Load got, Load sent) {
		require(got.equals(sent), "load " + got.getNumber() + " of " + got.getData().size() + " bytes, not " + sent.getNumber() +
			" of " + sent.getData().size());
	}

	static void unary(int size, int number) {
		Load load = loadOf(size, number);
		requireSame(ClientCalls.blockingUnaryCall(channel, UNARY, CallOptions.DEFAULT, load), load);
	}

	/** A conversation, one message at a time. */
	static final class Talk implements ClientResponseObserver<Load, Load> {
		final BlockingQueue<Object> incoming = new LinkedBlockingQueue<>();
		ClientCallStreamObserver<Load> out;

		Talk() {
			ClientCalls.asyncBidiStreamingCall(channel.newCall(TALK, CallOptions.DEFAULT), this);
		}

		@Override
		public void beforeStart(ClientCallStreamObserver<Load> stream) {
			out = stream;
		}

		@Override
		public void onNext(Load load) {
			incoming.add(load);
		}

		@Override
		public void onError(Throwable error) {
			incoming.add(Status.fromThrowable(error));
		}

		@Override
		public void onCompleted() {
			incoming.add(Status.OK);
		}

		Load read() throws Exception {
			Object item = incoming.take();
			require(item instanceof Load, "the conversation ended: " + item);
			return (Load) item;
		}

		Status status() throws Exception {
			Object item;
			do
				item = incoming.take();
			while (!(item instanceof Status));
			return (Status) item;
		}

		void exchange(int size, int number) throws Exception {
			Load load = loadOf(size, number);
			out.onNext(load);
			requireSame(read(), load);
		}

		void end() throws Exception {
			out.onCompleted();
			require(status().isOk(), "no orderly end");
		}
	}

	static void expect(Set<Status.Code> codes, String details, Callable<?> call) throws Exception {
		try {
			call.call();
			require(false, "none of " + codes);
		} catch (StatusRuntimeException error) {
			Status status = error.getStatus();
			require(codes.contains(status.getCode()) && (details == null || details.equals(status.getDescription())), status.toString());
		}
	}

	static int countGivenUp() {
		return ClientCalls.blockingUnaryCall(channel, GIVEN_UP, CallOptions.DEFAULT, Nothing.getDefaultInstance()).getMessages();
	}

	static void awaitGivenUp(int count) throws Exception {
		for (int i = 0; i < 500 && countGivenUp() < count; i++)
			Thread.sleep(10);
		require(countGivenUp() >= count, "the server does not notice that a call was given up");
	}

	interface Case {
		void play() throws Exception;
	}

	static final Map<String, Case> CASES = new LinkedHashMap<>();
	static {
		CASES.put("sizes", () -> {
			for (int size : new int[] {0, 1, 100, 16383, 65536, 1048577, 4194304, 67108864})
				unary(size, 0);
		});
		CASES.put("many", () -> {
			for (int i = 0; i < 200; i++)
				unary(i, i);
		});
		CASES.put("collect", () -> {
			BlockingQueue<Object> answer = new LinkedBlockingQueue<>();
			StreamObserver<Load> out = ClientCalls.asyncClientStreamingCall(channel.newCall(COLLECT, CallOptions.DEFAULT),
				new StreamObserver<Sum>() {
					@Override
					public void onNext(Sum sum) {
						answer.add(sum);
					}

					@Override
					public void onError(Throwable error) {
						answer.add(error);
					}

					@Override
					public void onCompleted() {
					}
				});
			Adder adder = new Adder();
			for (int i = 0; i < 100; i++) {
				Load load = loadOf(i * i * 37 % 50000, i);
				adder.add(load);
				out.onNext(load);
			}
			out.onCompleted();
			Object sum = answer.take();
			require(sum.equals(adder.sum()), "another sum: " + sum);
		});
		CASES.put("deal", () -> {
			Order order = Order.newBuilder().setLoad(loadOf(10000, 0)).setTimes(200).build();
			int number = 0;
			for (Iterator<Load> loads = ClientCalls.blockingServerStreamingCall(channel, DEAL, CallOptions.DEFAULT, order); loads.hasNext();)
				requireSame(loads.next(), order.getLoad().toBuilder().setNumber(number++).build());
			require(number == 200, number + " loads");
		});
		CASES.put("talk", () -> {
			Talk talk = new Talk();
			for (int i = 0; i < 50; i++)
				talk.exchange(i * 101, i);
			for (int i = 0; i < 100; i++)
				talk.out.onNext(loadOf(20000, i));
			for (int i = 0; i < 100; i++)
				requireSame(talk.read(), loadOf(20000, i));
			talk.end();
		});
		CASES.put("parallel", () -> {
			List<Thread> threads = new ArrayList<>();
			for (int i = 0; i < 8; i++) {
				int number = i;
				threads.add(new Thread(() -> {
					unary(500000, number);
					unary(500000, number + 8);
				}));
				threads.get(i).setUncaughtExceptionHandler((thread, error) -> require(false, error.toString()));
				threads.get(i).start();
			}
			for (Thread thread : threads)
				thread.join();
		});
		CASES.put("metadata", () -> {
			String text = "t".repeat(2000);
			byte[] bytes = new byte[1024];
			for (int i = 0; i < bytes.length; i++)
				bytes[i] = (byte) i;
			Metadata metadata = new Metadata();
			metadata.put(TEXT, text);
			metadata.put(BYTES, bytes);
			var headers = new java.util.concurrent.atomic.AtomicReference<Metadata>();
			var trailers = new java.util.concurrent.atomic.AtomicReference<Metadata>();
			Channel with = ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(metadata),
				MetadataUtils.newCaptureMetadataInterceptor(headers, trailers));
			ClientCalls.blockingUnaryCall(with, UNARY, CallOptions.DEFAULT, loadOf(10, 0));
			for (Metadata back : List.of(headers.get(), trailers.get()))
				require(text.equals(back.get(TEXT)) && Arrays.equals(bytes, back.get(BYTES)), "other metadata");
		});
		CASES.put("failure", () -> expect(Set.of(Status.Code.NOT_FOUND), MISSING,
			() -> ClientCalls.blockingUnaryCall(channel, UNARY, CallOptions.DEFAULT, loadOf(10, 404))));
		CASES.put("deadline", () -> {
			int before = countGivenUp();
			expect(Set.of(Status.Code.DEADLINE_EXCEEDED, Status.Code.CANCELLED), null, () -> ClientCalls.blockingUnaryCall(channel, WAIT,
				CallOptions.DEFAULT.withDeadlineAfter(200, TimeUnit.MILLISECONDS), Nothing.getDefaultInstance()));
			awaitGivenUp(before + 1);
		});
		CASES.put("cancel", () -> {
			int before = countGivenUp();
			ClientCall<Nothing, Nothing> call = channel.newCall(WAIT, CallOptions.DEFAULT);
			Future<Nothing> end = ClientCalls.futureUnaryCall(call, Nothing.getDefaultInstance());
			Thread.sleep(100);
			call.cancel("enough", null);
			try {
				end.get();
				require(false, "no status");
			} catch (ExecutionException error) {
				require(Status.fromThrowable(error).getCode() == Status.Code.CANCELLED, error.toString());
			}
			awaitGivenUp(before + 1);
			Talk talk = new Talk();
			talk.exchange(1000, 0);
			talk.out.cancel("enough", null);
			require(talk.status().getCode() == Status.Code.CANCELLED, "another status");
		});
		// Only the server pings: grpc-java's clients do so every ten seconds at most.
		CASES.put("keepalive", () -> {
			Talk talk = new Talk();
			for (int i = 0; i < 2; i++) {
				talk.exchange(1000, i);
				Thread.sleep(600);
			}
			talk.end();
			Thread.sleep(600);
			unary(1000, 0);
		});
	}

	static void again() throws Exception {
		for (int i = 0;; i++)
			try {
				ClientCalls.blockingUnaryCall(channel, UNARY, CallOptions.DEFAULT.withDeadlineAfter(5, TimeUnit.SECONDS), loadOf(1000, 0));
				return;
			} catch (StatusRuntimeException error) {
				require(i < 100, error.toString());
				Thread.sleep(100);
			}
	}

	static void outlive() throws Exception {
		BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
		Talk talk = null;
		for (String command = "hold"; command != null; command = commands.readLine()) {
			switch (command) {
			case "hold":
				talk = new Talk();
				talk.exchange(1000, 0);
				break;
			case "finish":
				for (int i = 0; i < 20; i++)
					talk.exchange(i * 1000, i);
				talk.end();
				break;
			case "lost":
				require(!talk.status().isOk(), "an orderly end from a dead server");
				break;
			case "again":
				again();
				CASES.get("many").play();
			}
			System.out.println(command);
		}
	}

	public static void main(String[] words) throws Exception {
		String cert = words.length > 2 ? words[2] : null;
		int port = Integer.parseInt(words[1]);
		if (words[0].equals("serve")) {
			serve(port, cert, cert == null ? null : words[3]);
			System.exit(0);
		}
		NettyChannelBuilder builder = NettyChannelBuilder.forAddress(new InetSocketAddress("127.0.0.1", port))
			.channelType(EPOLL ? EpollSocketChannel.class : NioSocketChannel.class).eventLoopGroup(loops(2))
			.maxInboundMessageSize(Integer.MAX_VALUE);
		if (cert == null)
			builder.usePlaintext();
		else
			builder.sslContext(GrpcSslContexts.forClient().trustManager(new File(cert)).build());
		channel = builder.build();
		if (words[0].equals("outlive"))
			outlive();
		else
			for (var each : CASES.entrySet()) {
				long begun = System.currentTimeMillis();
				each.getValue().play();
				System.out.println(each.getKey() + " " + (System.currentTimeMillis() - begun) + " ms");
			}
		System.exit(0);
	}
}
