import CWorker
import Foundation
import Images
import Support

/// What host and worker say to each other.
enum WorkerProtocol {
    /// Raised with every change. A worker says which one it speaks when it is asked what it serves; the first did not.
    static let version = 2
}

/// What the host asks a worker. On the wire a message is two 32-bit sizes in host byte order, that many bytes of JSON, and that many bytes of
/// binary data. The pictures do not go over the wire: they lie in shared memory, `[count, height, width, 3]`.
enum WorkerRequest: Codable {
    case describe
    case make(options: [String: String], device: String, timeout: Double?)
    case score(batch: Batch)

    /// A batch but for its pixels.
    struct Batch: Codable {
        let count, height, width: Int
        let prompts, metadata: [String]
        let ids, seeds: [UInt64]
    }
}

/// What a worker answers. With `scores` come float32 numbers as binary data, `[count, objectives]`.
enum WorkerAnswer: Codable {
    case description(RewardDescription, version: Int)
    case made(fingerprint: String)
    case scores(failures: [Int: String])
    /// The reward itself says that it cannot.
    case error(String)

    private enum CodingKeys: String, CodingKey { case description, version = "protocol", made, scores, error }

    // By hand, because a synthesised one calls the lone values `_0`.
    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        if let text = try container.decodeIfPresent(String.self, forKey: .error) {
            self = .error(text)
        } else if let description = try container.decodeIfPresent(RewardDescription.self, forKey: .description) {
            self = .description(description, version: try container.decodeIfPresent(Int.self, forKey: .version) ?? 1)
        } else if let fingerprint = try container.decodeIfPresent(String.self, forKey: .made) {
            self = .made(fingerprint: fingerprint)
        } else {
            self = .scores(failures: try container.decode([Int: String].self, forKey: .scores))
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        switch self {
        case .description(let description, let version):
            try container.encode(description, forKey: .description)
            try container.encode(version, forKey: .version)
        case .made(let fingerprint): try container.encode(fingerprint, forKey: .made)
        case .scores(let failures): try container.encode(failures, forKey: .scores)
        case .error(let text): try container.encode(text, forKey: .error)
        }
    }
}

/// How long the other side is waited for.
struct Patience {
    /// On the monotonic clock, in seconds.
    var deadline = Double.infinity
    /// Whether anybody still wants what is waited for. Asked ten times a second; nil: always.
    var isWanted: (@Sendable () -> Bool)?
}

/// One end of the socket between host and worker.
struct WorkerConnection {
    /// The largest message that is believed: more is garbage from a process that has run wild.
    private static let largest = 1 << 30

    /// Why nothing more comes.
    enum Problem: Error {
        case timedOut, unwanted, garbled
        /// The other side has closed its end, or is no more.
        case closed
        /// This side's end is gone.
        case lost
    }

    /// The socket; does not block.
    let socket: Int32
    /// Readable when the other process has ended; -1: unknown.
    let peer: Int32

    func send(
        _ message: some Encodable, _ data: UnsafeRawBufferPointer = .init(start: nil, count: 0), _ patience: Patience = Patience()
    ) throws {
        let json = try JSONEncoder().encode(message)
        var sizes = [UInt32(json.count), UInt32(data.count)]
        try sizes.withUnsafeMutableBytes { try write(UnsafeRawBufferPointer($0), patience) }
        try json.withUnsafeBytes { try write($0, patience) }
        try write(data, patience)
    }

    /// The next message and its binary data.
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
        var data = Data(count: count)
        var done = 0
        while done < count {
            let got = data.withUnsafeMutableBytes { Glibc.recv(socket, $0.baseAddress! + done, count - done, 0) }
            if got == 0 { throw Problem.closed }
            if got > 0 { done += got } else { try wait(Int16(POLLIN), patience) }
        }
        return data
    }

    /// Waits until the socket is ready. Throws if the last call failed for good, the other side is gone, or patience is at its end.
    private func wait(_ event: Int16, _ patience: Patience) throws {
        guard [EAGAIN, EINTR].contains(errno) else { throw [ECONNRESET, EPIPE].contains(errno) ? Problem.closed : Problem.lost }
        var descriptors = [pollfd(fd: socket, events: event, revents: 0), pollfd(fd: peer, events: Int16(POLLIN), revents: 0)]
        let left = patience.deadline - monotonicSeconds()
        guard left > 0 else { throw Problem.timedOut }
        guard patience.isWanted?() ?? true else { throw Problem.unwanted }
        _ = poll(&descriptors, peer >= 0 ? 2 : 1, Int32(min(left * 1000 + 1, patience.isWanted == nil ? 1e9 : 100)))
        // What a process said before it ended still counts.
        if descriptors[0].revents == 0, descriptors[1].revents != 0 { throw Problem.closed }
    }
}
