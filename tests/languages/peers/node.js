// SPDX-License-Identifier: BSD-2-Clause
// Node, @grpc/grpc-js: serve PORT [CERT KEY] | call PORT [CERT] | outlive PORT [CERT]
'use strict';
const fs = require('fs');
const path = require('path');
const {createRequire} = require('module');
const fetched = createRequire(process.env.NODE_MODULES + '/');
const grpc = fetched('@grpc/grpc-js');
const {Echo} = grpc.loadPackageDefinition(fetched('@grpc/proto-loader').loadSync(
	path.join(__dirname, '../echo.proto'), {defaults: true, longs: Number})).notnets.languages;

const table = Uint32Array.from({length: 256}, (_, n) => {
	for (let k = 0; k < 8; k++)
		n = n & 1 ? n >>> 1 ^ 0xedb88320 : n >>> 1;
	return n;
});
const crcOf = require('zlib').crc32 || ((data, crc = 0) => { // Node 20.15 has it
	crc = ~crc;
	for (const byte of data)
		crc = table[(crc ^ byte) & 255] ^ crc >>> 8;
	return ~crc >>> 0;
});

const isWhole = (load) => crcOf(load.data) === load.crc;
const dataLoss = {code: grpc.status.DATA_LOSS, details: 'wrong checksum'};
const missing = {code: grpc.status.NOT_FOUND, details: 'no such load: ☃'};
let givenUp = 0;

function addTo(sum, load) {
	sum.messages++;
	sum.bytes += load.data.length;
	sum.crc = crcOf(load.data, sum.crc);
}

function echoed(metadata) {
	const back = new grpc.Metadata();
	for (const key of ['x-text', 'x-bytes-bin'])
		for (const value of metadata.get(key))
			back.add(key, value);
	return back;
}

const service = {
	Unary(call, done) {
		const metadata = echoed(call.metadata);
		call.sendMetadata(metadata);
		const error = call.request.number === 404 ? missing : isWhole(call.request) ? null : dataLoss;
		done(error && {...error, metadata}, call.request, metadata);
	},
	Collect(call, done) {
		const sum = {messages: 0, bytes: 0, crc: 0};
		call.on('data', (load) => {
			if (!isWhole(load))
				done(dataLoss);
			addTo(sum, load);
		});
		call.on('end', () => done(null, sum));
	},
	async Deal(call) {
		const {load, times} = call.request;
		if (!isWhole(load))
			return call.emit('error', dataLoss);
		for (let number = 0; number < times; number++)
			if (!call.write({...load, number}))
				await new Promise((go) => call.once('drain', go));
		call.end();
	},
	Talk(call) {
		call.on('data', (load) => {
			if (!isWhole(load))
				return call.emit('error', dataLoss);
			if (!call.write(load)) {
				call.pause();
				call.once('drain', () => call.resume());
			}
		});
		call.on('end', () => call.end());
	},
	Wait(call) {
		call.on('cancelled', () => givenUp++);
	},
	GivenUp(call, done) {
		done(null, {messages: givenUp});
	},
};

// grpc-js gives a connection up when it would ping while the connection is drained. So this server does not ping, nor the client that
// outlives one.
const unlimited = {'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1, 'grpc.keepalive_permit_without_calls': 1};

function serve(port, cert, key) {
	const server = new grpc.Server(unlimited);
	server.addService(Echo.service, service);
	const credentials = cert ?
		grpc.ServerCredentials.createSsl(null, [{cert_chain: fs.readFileSync(cert), private_key: fs.readFileSync(key)}]) :
		grpc.ServerCredentials.createInsecure();
	server.bindAsync(`127.0.0.1:${port}`, credentials, (error, bound) => {
		if (error)
			throw error;
		console.log(`PORT ${bound}`);
	});
	process.on('SIGTERM', () => server.tryShutdown(() => process.exit(0)));
}

// ---- client ----

const block = (() => {
	const bytes = Buffer.alloc(65521);
	for (let i = 0, x = 1; i < bytes.length; i++) {
		x = Math.imul(x, 1103515245) + 12345 >>> 0;
		bytes[i] = x >>> 16;
	}
	return bytes;
})();

function loadOf(size, number = 0) {
	const data = Buffer.alloc(size);
	for (let at = 0, from = number % block.length; at < size; from = 0)
		at += block.copy(data, at, from);
	return {data, crc: crcOf(data), number};
}

function require_(holds, what) {
	if (!holds) {
		console.log('failed:', what);
		process.exit(1);
	}
}

function requireSame(got, sent) {
	require_(got && got.crc === sent.crc && got.number === sent.number && got.data.equals(sent.data),
		`load ${got && got.number} of ${got && got.data.length} bytes, not ${sent.number} of ${sent.data.length}`);
}

const sleep = (ms) => new Promise((go) => setTimeout(go, ms));
let stub;

// A call with one answer: {error, reply, headers, trailers}.
function ask(method, request, metadata = new grpc.Metadata(), options = {}, started = () => {}) {
	return new Promise((done) => {
		const end = {};
		const call = stub[method](request, metadata, options, (error, reply) => Object.assign(end, {error, reply}));
		call.on('metadata', (headers) => { end.headers = headers; });
		call.on('status', (status) => { // before or after the answer
			end.trailers = status.metadata;
			setImmediate(() => done(end));
		});
		started(call);
	});
}

async function unary(size, number = 0) {
	const load = loadOf(size, number);
	const {error, reply} = await ask('Unary', load);
	require_(!error, error);
	requireSame(reply, load);
}

class Talk {
	constructor() {
		this.call = stub.Talk();
		this.end = new Promise((done) => {
			this.call.on('status', done);
			this.call.on('error', () => {});
		});
		this.incoming = this.call[Symbol.asyncIterator]();
	}
	async read() {
		return (await this.incoming.next()).value;
	}
	async write(load) {
		if (!this.call.write(load))
			await new Promise((go) => this.call.once('drain', go));
	}
	async exchange(size, number) {
		const load = loadOf(size, number);
		await this.write(load);
		requireSame(await this.read(), load);
	}
	async finish() {
		this.call.end();
		require_(!await this.read() && (await this.end).code === grpc.status.OK, 'no orderly end');
	}
}

async function awaitGivenUp(count) {
	for (let i = 0; i < 500 && await countGivenUp() < count; i++)
		await sleep(10);
	require_(await countGivenUp() >= count, 'the server does not notice that a call was given up');
}

const countGivenUp = async () => (await ask('GivenUp', {})).reply.messages;

const tooLate = [grpc.status.DEADLINE_EXCEEDED, grpc.status.CANCELLED];

async function expect(codes, promise, details) {
	const {error} = await promise;
	require_(error && codes.includes(error.code) && (!details || error.details === details), `not ${codes}: ${error}`);
}

const cases = {
	async sizes() {
		for (const size of [0, 1, 100, 16383, 65536, 1048577, 4194304, 67108864])
			await unary(size);
	},
	async many() {
		for (let i = 0; i < 200; i++)
			await unary(i, i);
	},
	async collect() {
		const sum = {messages: 0, bytes: 0, crc: 0};
		await new Promise((done) => {
			const call = stub.Collect((error, reply) => {
				require_(!error && reply.messages === sum.messages && reply.bytes === sum.bytes && reply.crc === sum.crc,
					error || 'another sum');
				done();
			});
			for (let i = 0; i < 100; i++) {
				const load = loadOf(i * i * 37 % 50000, i);
				addTo(sum, load);
				call.write(load);
			}
			call.end();
		});
	},
	async deal() {
		const load = loadOf(10000);
		let number = 0;
		for await (const got of stub.Deal({load, times: 200}))
			requireSame(got, {...load, number: number++});
		require_(number === 200, `${number} loads`);
	},
	async talk() {
		const talk = new Talk();
		for (let i = 0; i < 50; i++)
			await talk.exchange(i * 101, i);
		const writing = (async () => {
			for (let i = 0; i < 100; i++)
				await talk.write(loadOf(20000, i));
		})();
		for (let i = 0; i < 100; i++)
			requireSame(await talk.read(), loadOf(20000, i));
		await writing;
		await talk.finish();
	},
	async parallel() {
		await Promise.all([...Array(8).keys()].map(async (i) => {
			await unary(500000, i);
			await unary(500000, i + 8);
		}));
	},
	async metadata() {
		const metadata = new grpc.Metadata();
		const text = 't'.repeat(2000);
		const bytes = Buffer.from(Array.from({length: 1024}, (_, i) => i));
		metadata.add('x-text', text);
		metadata.add('x-bytes-bin', bytes);
		const {error, headers, trailers} = await ask('Unary', loadOf(10), metadata);
		require_(!error, error);
		for (const back of [headers, trailers])
			require_(back.get('x-text')[0] === text && bytes.equals(back.get('x-bytes-bin')[0]), 'other metadata');
	},
	async failure() {
		await expect([grpc.status.NOT_FOUND], ask('Unary', loadOf(10, 404)), 'no such load: ☃');
	},
	async deadline() {
		const before = await countGivenUp();
		await expect(tooLate, ask('Wait', {}, undefined, {deadline: Date.now() + 200}));
		await awaitGivenUp(before + 1);
	},
	async cancel() {
		const before = await countGivenUp();
		await expect([grpc.status.CANCELLED], ask('Wait', {}, undefined, {}, (call) => setTimeout(() => call.cancel(), 100)));
		await awaitGivenUp(before + 1);
		const talk = new Talk();
		await talk.exchange(1000, 0);
		talk.call.cancel();
		require_((await talk.end).code === grpc.status.CANCELLED, 'another status');
	},
	async keepalive() {
		const talk = new Talk();
		for (let i = 0; i < 2; i++) {
			await talk.exchange(1000, i);
			await sleep(600);
		}
		await talk.finish();
		await sleep(600);
		await unary(1000);
	},
};

async function again() {
	let error;
	for (let i = 0; i < 100; i++) {
		({error} = await ask('Unary', loadOf(1000), undefined, {deadline: Date.now() + 5000}));
		if (!error)
			return;
		await sleep(100);
	}
	require_(false, error);
}

async function outlive() {
	let talk;
	const obey = {
		async hold() {
			talk = new Talk();
			await talk.exchange(1000, 0);
		},
		async finish() {
			for (let i = 0; i < 20; i++)
				await talk.exchange(i * 1000, i);
			await talk.finish();
		},
		async lost() {
			require_((await talk.end).code !== grpc.status.OK, 'an orderly end from a dead server');
		},
		async again() {
			await again();
			await cases.many();
		},
	};
	await obey.hold();
	console.log('hold');
	for await (const command of require('readline').createInterface({input: process.stdin})) {
		await obey[command]();
		console.log(command);
	}
}

async function main(verb, port, cert, key) {
	if (verb === 'serve')
		return serve(port, cert, key);
	const credentials = cert ? grpc.credentials.createSsl(fs.readFileSync(cert)) : grpc.credentials.createInsecure();
	stub = new Echo(`127.0.0.1:${port}`, credentials, {...unlimited, ...(verb === 'call' && {'grpc.keepalive_time_ms': 150}),
		'grpc.initial_reconnect_backoff_ms': 100, 'grpc.max_reconnect_backoff_ms': 500});
	if (verb === 'outlive')
		await outlive();
	else
		for (const [name, play] of Object.entries(cases)) {
			const begun = Date.now();
			await play();
			console.log(name, Date.now() - begun, 'ms');
		}
	stub.close();
}

main(...process.argv.slice(2)).catch((error) => require_(false, error.stack));
