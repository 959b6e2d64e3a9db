import CWorker
import Foundation
import Images

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
    case description(RewardDescription)
    case made(fingerprint: String)
    case scores(failures: [Int: String])
    /// The reward itself says that it cannot.
    case error(String)

    private enum CodingKeys: String, CodingKey { case description, made, scores, error }

    // By hand, because a synthesised one calls the lone values `_0`.
    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        if let text = try container.decodeIfPresent(String.self, forKey: .error) {
            self = .error(text)
        } else if let description = try container.decodeIfPresent(RewardDescription.self, forKey: .description) {
            self = .description(description)
        } else if let fingerprint = try container.decodeIfPresent(String.self, forKey: .made) {
            self = .made(fingerprint: fingerprint)
        } else {
            self = .scores(failures: try container.decode([Int: String].self, forKey: .scores))
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        switch self {
        case .description(let description): try container.encode(description, forKey: .description)
        case .made(let fingerprint): try container.encode(fingerprint, forKey: .made)
        case .scores(let failures): try container.encode(failures, forKey: .scores)
        case .error(let text): try container.encode(text, forKey: .error)
        }
    }
}

/// One end of the socket between host and worker.
struct WorkerConnection {
    /// The largest message that is believed: more is garbage from a process that has run wild.
    private static let largest = 1 << 30

    /// Why nothing more comes.
    enum Problem: Error { case timedOut, closed, garbled }

    /// The socket; does not block.
    let socket: Int32
    /// Readable when the other process has ended; -1: unknown.
    let peer: Int32

    /// - Parameter deadline: on the monotonic clock, in seconds.
    func send(_ message: some Encodable, _ data: UnsafeRawBufferPointer = .init(start: nil, count: 0), until deadline: Double) throws {
        let json = try JSONEncoder().encode(message)
        var sizes = [UInt32(json.count), UInt32(data.count)]
        try sizes.withUnsafeMutableBytes { try write(UnsafeRawBufferPointer($0), until: deadline) }
        try json.withUnsafeBytes { try write($0, until: deadline) }
        try write(data, until: deadline)
    }

    /// The next message and its binary data.
    func receive<Message: Decodable>(_: Message.Type, until deadline: Double) throws -> (Message, Data) {
        let sizes = try read(8, until: deadline).withUnsafeBytes { ($0.load(as: UInt32.self), $0.load(fromByteOffset: 4, as: UInt32.self)) }
        guard sizes.0 <= Self.largest, sizes.1 <= Self.largest else { throw Problem.garbled }
        let json = try read(Int(sizes.0), until: deadline)
        let data = try read(Int(sizes.1), until: deadline)
        do { return (try JSONDecoder().decode(Message.self, from: json), data) } catch { throw Problem.garbled }
    }

    private func write(_ bytes: UnsafeRawBufferPointer, until deadline: Double) throws {
        var done = 0
        while done < bytes.count {
            let count = Glibc.send(socket, bytes.baseAddress! + done, bytes.count - done, Int32(MSG_NOSIGNAL))
            if count >= 0 { done += count } else { try wait(Int16(POLLOUT), until: deadline) }
        }
    }

    private func read(_ count: Int, until deadline: Double) throws -> Data {
        var data = Data(count: count)
        var done = 0
        while done < count {
            let got = data.withUnsafeMutableBytes { Glibc.recv(socket, $0.baseAddress! + done, count - done, 0) }
            if got == 0 { throw Problem.closed }
            if got > 0 { done += got } else { try wait(Int16(POLLIN), until: deadline) }
        }
        return data
    }

    /// Waits until the socket is ready. Throws if the last call failed for good, the other side is gone, or time is up.
    private func wait(_ event: Int16, until deadline: Double) throws {
        guard [EAGAIN, EINTR].contains(errno) else { throw Problem.closed }
        var descriptors = [pollfd(fd: socket, events: event, revents: 0), pollfd(fd: peer, events: Int16(POLLIN), revents: 0)]
        let left = deadline - monotonicSeconds()
        guard left > 0 else { throw Problem.timedOut }
        _ = poll(&descriptors, peer >= 0 ? 2 : 1, Int32(min(left * 1000 + 1, 1e9)))
        // What a process said before it ended still counts.
        if descriptors[0].revents == 0, descriptors[1].revents != 0 { throw Problem.closed }
    }
}

/// Seconds on the monotonic clock.
func monotonicSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}
