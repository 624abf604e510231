# SPDX-License-Identifier: BSD-2-Clause
# Ruby, the grpc gem: serve PORT [CERT KEY] | call PORT [CERT] | outlive PORT [CERT]
require 'grpc'
require 'zlib'
$LOAD_PATH.unshift(ENV.fetch('GENERATED_RUBY'))
require 'echo_services_pb'
include Notnets::Languages # rubocop:disable Style/MixinUsage

MISSING = 'no such load: ☃'
ARGUMENTS = {
  'grpc.max_receive_message_length' => -1, 'grpc.max_send_message_length' => -1, 'grpc.keepalive_permit_without_calls' => 1,
  'grpc.http2.max_pings_without_data' => 0
}.freeze

def check(load)
  Zlib.crc32(load.data) == load.crc || raise(GRPC::DataLoss, 'wrong checksum')
end

def add_to(sum, load)
  sum.messages += 1
  sum.bytes += load.data.bytesize
  sum.crc = Zlib.crc32(load.data, sum.crc)
end

class Service < Echo::Service
  @given_up = 0
  @lock = Mutex.new
  class << self
    attr_reader :given_up

    def count
      @lock.synchronize { @given_up += 1 }
    end
  end

  def unary(load, call)
    metadata = call.metadata.slice('x-text', 'x-bytes-bin')
    call.merge_metadata_to_send(metadata)
    call.output_metadata.update(metadata)
    raise GRPC::NotFound, MISSING if load.number == 404

    check(load)
    load
  end

  def collect(call)
    sum = Sum.new
    call.each_remote_read do |load|
      check(load)
      add_to(sum, load)
    end
    sum
  end

  def deal(order, _call)
    check(order.load)
    (0...order.times).lazy.map { |i| Load.new(data: order.load.data, crc: order.load.crc, number: i) }
  end

  def talk(loads, _call)
    loads.lazy.map { |load| check(load) && load }
  end

  # The gem tells a handler nothing of the caller's end; the call below it does.
  def wait(_nothing, call)
    inner = call.instance_variable_get(:@wrapped).instance_variable_get(:@call)
    inner.run_batch(GRPC::Core::CallOps::RECV_CLOSE_ON_SERVER => nil)
    Service.count
    Nothing.new
  end

  def given_up(_nothing, _call)
    Sum.new(messages: Service.given_up)
  end
end

def serve(port, cert = nil, key = nil)
  server = GRPC::RpcServer.new(pool_size: 32, server_args: ARGUMENTS.merge(
    'grpc.keepalive_time_ms' => 200, 'grpc.http2.max_ping_strikes' => 0
  ))
  credentials = :this_port_is_insecure
  if cert
    pair = { private_key: File.read(key), cert_chain: File.read(cert) }
    credentials = GRPC::Core::ServerCredentials.new(nil, [pair], false)
  end
  bound = server.add_http2_port("127.0.0.1:#{port}", credentials)
  server.handle(Service)
  Thread.new do
    server.wait_till_running
    puts "PORT #{bound}"
    $stdout.flush
  end
  server.run_till_terminated_or_interrupted(['TERM'])
end

# ---- client ----

def demand(holds, what)
  return if holds

  puts "failed: #{what}"
  $stdout.flush
  exit!(1)
end

BLOCK = begin
  x = 1
  Array.new(65_521) { (x = (x * 1_103_515_245 + 12_345) & 0xffffffff) >> 16 & 255 }.pack('C*')
end

def load_of(size, number = 0)
  data = (BLOCK.byteslice((number % BLOCK.bytesize)..) + BLOCK * (size / BLOCK.bytesize + 1)).byteslice(0, size)
  Load.new(data: data, crc: Zlib.crc32(data), number: number)
end

def demand_same(got, sent)
  demand(got.data == sent.data && got.crc == sent.crc && got.number == sent.number,
         "load #{got.number} of #{got.data.bytesize} bytes, not #{sent.number} of #{sent.data.bytesize}")
end

def unary(size, number = 0)
  load = load_of(size, number)
  demand_same($stub.unary(load), load)
end

# A conversation, one message at a time.
class Talk
  attr_reader :operation

  def initialize
    @outgoing = Queue.new
    @incoming = Queue.new
    @operation = $stub.talk(Enumerator.new { |out| while (load = @outgoing.pop) do out << load end }, return_op: true)
    @reader = Thread.new do
      @operation.execute.each { |load| @incoming << load }
      @incoming << :end
    rescue GRPC::BadStatus => e
      @incoming << e
    end
  end

  def write(load)
    @outgoing << load
  end

  def read
    @incoming.pop
  end

  def exchange(size, number)
    load = load_of(size, number)
    write(load)
    got = read
    demand(got.is_a?(Load), "the conversation ended: #{got}")
    demand_same(got, load)
  end

  def close
    @outgoing << nil
  end

  def finish
    close
    got = read
    demand(got == :end, "no orderly end: #{got}")
  end
end

def expect(*classes, details: nil)
  yield
  demand(false, "none of #{classes}")
rescue *classes => e
  demand(!details || e.details.b == details.b, e.details)
end

def count_given_up
  $stub.given_up(Nothing.new).messages
end

def await_given_up(count)
  500.times do
    return if count_given_up >= count

    sleep 0.01
  end
  demand(false, 'the server does not notice that a call was given up')
end

CASES = {
  sizes: -> { [0, 1, 100, 16_383, 65_536, 1_048_577, 4_194_304, 67_108_864].each { |size| unary(size) } },
  many: -> { 200.times { |i| unary(i, i) } },
  collect: lambda {
    loads = Array.new(100) { |i| load_of(i * i * 37 % 50_000, i) }
    sum = Sum.new
    loads.each { |load| add_to(sum, load) }
    demand($stub.collect(loads) == sum, 'another sum')
  },
  deal: lambda {
    load = load_of(10_000)
    number = 0
    $stub.deal(Order.new(load: load, times: 200)).each do |got|
      load.number = number
      number += 1
      demand_same(got, load)
    end
    demand(number == 200, "#{number} loads")
  },
  talk: lambda {
    talk = Talk.new
    50.times { |i| talk.exchange(i * 101, i) }
    100.times { |i| talk.write(load_of(20_000, i)) }
    100.times { |i| demand_same(talk.read, load_of(20_000, i)) }
    talk.finish
  },
  parallel: lambda {
    Array.new(8) do |i|
      Thread.new do
        unary(500_000, i)
        unary(500_000, i + 8)
      end
    end.each(&:join)
  },
  metadata: lambda {
    text = 't' * 2000
    bytes = (0...1024).map { |i| i & 255 }.pack('C*')
    operation = $stub.unary(load_of(10), metadata: { 'x-text' => text, 'x-bytes-bin' => bytes }, return_op: true)
    operation.execute
    [operation.metadata, operation.trailing_metadata].each do |back|
      demand(back['x-text'] == text && back['x-bytes-bin'] == bytes, "other metadata: #{back.keys}")
    end
  },
  failure: -> { expect(GRPC::NotFound, details: MISSING) { $stub.unary(load_of(10, 404)) } },
  deadline: lambda {
    before = count_given_up
    expect(GRPC::DeadlineExceeded, GRPC::Cancelled) { $stub.wait(Nothing.new, deadline: Time.now + 0.2) }
    await_given_up(before + 1)
  },
  cancel: lambda {
    before = count_given_up
    operation = $stub.wait(Nothing.new, return_op: true)
    Thread.new do
      sleep 0.1
      operation.cancel
    end
    expect(GRPC::Cancelled) { operation.execute }
    await_given_up(before + 1)
    talk = Talk.new
    talk.exchange(1000, 0)
    talk.operation.cancel
    got = talk.read
    demand(got.is_a?(GRPC::Cancelled), "another status: #{got}")
    talk.close
  },
  keepalive: lambda {
    talk = Talk.new
    2.times do |i|
      talk.exchange(1000, i)
      sleep 0.6
    end
    talk.finish
    sleep 0.6
    unary(1000)
  }
}.freeze

def again
  tries = 0
  begin
    $stub.unary(load_of(1000), deadline: Time.now + 5)
  rescue GRPC::BadStatus
    raise if (tries += 1) == 100

    sleep 0.1
    retry
  end
end

def outlive
  talk = nil
  command = 'hold'
  while command
    case command
    when 'hold'
      talk = Talk.new
      talk.exchange(1000, 0)
    when 'finish'
      20.times { |i| talk.exchange(i * 1000, i) }
      talk.finish
    when 'lost'
      got = talk.read
      demand(got.is_a?(GRPC::BadStatus), "from a dead server: #{got}")
      talk.close
    when 'again'
      again
      CASES[:many].call
    end
    puts command
    $stdout.flush
    command = $stdin.gets&.chomp
  end
end

verb, port, cert, key = ARGV
if verb == 'serve'
  serve(port, cert, key)
  exit
end
credentials = cert ? GRPC::Core::ChannelCredentials.new(File.read(cert)) : :this_channel_is_insecure
$stub = Echo::Stub.new("127.0.0.1:#{port}", credentials, channel_args: ARGUMENTS.merge(
  'grpc.keepalive_time_ms' => 150, 'grpc.initial_reconnect_backoff_ms' => 100,
  'grpc.min_reconnect_backoff_ms' => 1000, 'grpc.max_reconnect_backoff_ms' => 500
))
if verb == 'outlive'
  outlive
else
  CASES.each do |name, play|
    begun = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    play.call
    puts "#{name} #{((Process.clock_gettime(Process::CLOCK_MONOTONIC) - begun) * 1000).round} ms"
    $stdout.flush
  end
end
