import Foundation
import Support

/// How long the other side is waited for.
struct Patience {
    /// On the monotonic clock, in seconds.
    var deadline = Double.infinity
    /// Whether the answer is still wanted, asked ten times a second; nil: always.
    var isWanted: (@Sendable () -> Bool)?
}

/// One end of the socket between host and worker.
///
/// A message is two 32-bit sizes in host byte order, that many bytes of JSON, and that many bytes of binary
/// data.
struct WorkerConnection {
    /// The largest size that is believed: a larger one is garbage from a process that has run wild.
    private static let largest = 1 << 30

    /// The reason why nothing more comes.
    enum Problem: Error {
        case timedOut, unwanted, garbled
        /// The other side has closed its end, or has ended.
        case closed
        /// This side's end is gone.
        case lost
    }

    /// The socket; does not block.
    let socket: Int32
    /// Readable when the other process has ended; -1: unknown.
    let peer: Int32

    /// Sends a message.
    /// - Throws: `Problem`.
    func send(
        _ message: some Encodable, _ data: UnsafeRawBufferPointer = .init(start: nil, count: 0), _ patience: Patience = Patience()
    ) throws {
        let json = try JSONEncoder().encode(message)
        var sizes = [UInt32(json.count), UInt32(data.count)]
        try sizes.withUnsafeMutableBytes { try write(UnsafeRawBufferPointer($0), patience) }
        try json.withUnsafeBytes { try write($0, patience) }
        try write(data, patience)
    }

    /// Waits for the next message and its binary data.
    /// - Throws: `Problem`.
    func receive<Message: Decodable>(_: Message.Type, _ patience: Patience = Patience()) throws -> (Message, Data) {
        let sizes = try read(8, patience).withUnsafeBytes { ($0.load(as: UInt32.self), $0.load(fromByteOffset: 4, as: UInt32.self)) }
        guard sizes.0 <= Self.largest, sizes.1 <= Self.largest else { throw Problem.garbled }
        let json = try read(Int(sizes.0), patience)
        let data = try read(Int(sizes.1), patience)
        do { return (try JSONDecoder().decode(Message.self, from: json), data) } catch { throw Problem.garbled }
    }

    private func write(_ bytes: UnsafeRawBufferPointer, _ patience: Patience) throws {
        var done = 0
        while done < bytes.count {
            let count = Glibc.send(socket, bytes.baseAddress! + done, bytes.count - done, Int32(MSG_NOSIGNAL))
            if count >= 0 { done += count } else { try wait(Int16(POLLOUT), patience) }
        }
    }

    private func read(_ count: Int, _ patience: Patience) throws -> Data {
        // The memory grows with what arrives: the count may be garbage.
        var data = Data()
        while data.count < count {
            var part = Data(count: min(count - data.count, 1 << 20))
            let got = part.withUnsafeMutableBytes { Glibc.recv(socket, $0.baseAddress, $0.count, 0) }
            if got == 0 { throw Problem.closed }
            if got > 0 { data.append(part.prefix(got)) } else { try wait(Int16(POLLIN), patience) }
        }
        return data
    }

    /// Waits until the socket is ready, after a call that did not succeed.
    /// - Throws: `Problem` if that call failed for good, the other side is gone, or patience is at its end.
    private func wait(_ event: Int16, _ patience: Patience) throws {
        guard [EAGAIN, EINTR].contains(errno) else { throw [ECONNRESET, EPIPE].contains(errno) ? Problem.closed : Problem.lost }
        var descriptors = [pollfd(fd: socket, events: event, revents: 0), pollfd(fd: peer, events: Int16(POLLIN), revents: 0)]
        let left = patience.deadline - monotonicSeconds()
        guard left > 0 else { throw Problem.timedOut }
        guard patience.isWanted?() ?? true else { throw Problem.unwanted }
        _ = poll(&descriptors, peer >= 0 ? 2 : 1, Int32(min(left * 1000 + 1, patience.isWanted == nil ? 1e9 : 100)))
        // An answer that was sent before the process ended still counts.
        if descriptors[0].revents == 0, descriptors[1].revents != 0 { throw Problem.closed }
    }
}
