import Foundation
import Support
import Synchronization
import Tensors

/// What ended the work of this rank although it did nothing wrong itself: one line that names the rank and
/// the remedy.
package struct TeamError: OneLineError {
    /// One line: the rank, what happened there, and the remedy.
    package let description: String

    init(_ description: String) { self.description = description }
}

/// The processes that work on one run, each of which has a rank: one process, unless a launcher has started
/// several.
///
/// All do the same with the same settings. What all know they compute alike; what each has done by itself the
/// others learn in an exchange. A rank that fails or is cancelled says so in the exchange that the others are
/// waiting in or come to next, so that all ranks leave a piece of work in the same way. One process alone is
/// a team of one, whose exchanges are the identity.
///
/// The rule that keeps ranks from waiting for each other for ever: whether an exchange is made may depend
/// only on what all ranks know alike (settings, progress, what was exchanged), never on a file, a clock, a
/// flag or a callback.
package final class Team: @unchecked Sendable {
    /// The number of this process, from 0.
    package let rank: Int
    /// The number of processes.
    package let count: Int
    /// Whether this is rank 0, which alone writes files.
    package var isLeader: Bool { rank == 0 }
    /// Whether another process has ended or cannot be reached, so that there are no exchanges any more.
    package var isBroken: Bool { loss != nil }

    private let table: SharedTable?
    private var group: ProcessGroup?
    private var loss: TeamError?
    private var isTogether = false
    /// Exchanges so far.
    private let number = Atomic(0)
    private let look = Mutex((time: ContinuousClock.now, isAsked: false, number: 0))
    private var monitor: Monitor?

    /// One process.
    package init() { (rank, count, table) = (0, 1, nil) }

    /// Meets the others at a table.
    /// - Parameters:
    ///   - patience: seconds until all have to be there.
    ///   - timeout: seconds that an exchange may take: longer than the slowest reward of one rank.
    /// - Throws: `TeamError` that names those who are missing.
    package init(at table: SharedTable, rank: Int, count: Int, patience: Double = Team.patience, timeout: Double = 1800) throws {
        self.rank = rank
        self.count = count
        self.table = table
        do {
            try table.set("here/\(rank)", to: "")
            let end = ContinuousClock.now + .seconds(patience)
            var missing = Array(0..<count)
            while !missing.isEmpty {
                missing = try missing.filter { try table.text("here/\($0)") == nil }
                guard ContinuousClock.now < end || missing.isEmpty else {
                    let ranks = missing.map(String.init).joined(separator: ", ")
                    throw TeamError(
                        "rank \(ranks) of \(count) has not come in \(Int(patience)) seconds: start all \(count) at the same time")
                }
                if !missing.isEmpty { usleep(10_000) }
            }
            group = try ProcessGroup(meetingAt: table, rank: rank, count: count, timeout: timeout)
        } catch let error as TensorError {
            throw TeamError(
                "rank \(rank) of \(count) cannot reach the others (\(error.firstLine)): see what the one that has ended printed, and start all again"
            )
        }
    }

    /// Seconds until all ranks have to be there.
    package static let patience = 60.0

    /// Passes cancellation on from `monitor` to the other ranks, and from them to whatever asks `monitor`.
    package func serve(_ monitor: Monitor) {
        guard count > 1 else { return }
        self.monitor = monitor
        monitor.othersStop = { [weak self] in self?.isAskedToStop ?? false }
    }

    // MARK: Working together

    /// An error that all ranks know of.
    private struct Told: Error { let error: any Error }

    /// Does a piece of work that all ranks do. Either it succeeds on all ranks, or it throws on all.
    /// - Parameter purpose: says what is done, in the message when another rank is doing something else.
    /// - Throws: an error of `body`, here or on another rank, whose error is then a `TeamError`; `Cancelled`
    ///   if a rank was cancelled.
    package func together<Value>(_ purpose: String, _ body: () throws -> Value) throws -> Value {
        guard group != nil, !isTogether else { return try body() }
        isTogether = true
        defer { isTogether = false }
        do {
            let value: Value
            do { value = try body() } catch let told as Told { throw told } catch {
                if !isBroken { _ = try exchange(purpose, .failure(error)) }
                throw error
            }
            _ = try exchange(purpose, .success(nothing))
            return value
        } catch let told as Told { throw told.error }
    }

    /// Gives every rank a value of each, in the order of ranks.
    /// - Throws: `TeamError`, `Cancelled`, `TensorError`, `EncodingError`.
    func exchange<Value: Codable>(_ purpose: String, _ value: Value) throws -> [Value] {
        guard count > 1 else { return [value] }
        let data = try Self.encode(value)
        return try exchange(purpose, .success(Array(repeating: data, count: count))).map { try Self.decode($0) }
    }

    /// Gives each rank its part of what every rank has, in the order of ranks.
    /// - Throws: as above.
    func exchange<Value: Codable>(_ purpose: String, parts: [Value]) throws -> [Value] {
        guard count > 1 else { return parts }
        return try exchange(purpose, .success(parts.map { try Self.encode($0) })).map { try Self.decode($0) }
    }

    /// Gives rank 0 a value of each, in the order of ranks; the others get nothing.
    /// - Throws: as above.
    func gather<Value: Codable>(_ purpose: String, _ value: Value) throws -> [Value] {
        guard count > 1 else { return [value] }
        let data = try Self.encode(value)
        let values = try exchange(purpose, .success([data] + nothing.dropFirst()))
        return isLeader ? try values.map { try Self.decode($0) } : []
    }

    /// Gives every rank what rank 0 finds.
    /// - Throws: as above, or an error of `body`.
    package func leads<Value: Codable>(_ purpose: String, _ body: () throws -> Value) throws -> Value {
        try fromLeader(purpose) { _ in try body() }
    }

    /// Gives each rank what rank 0 makes for it.
    /// - Throws: as above, or an error of `body`.
    func fromLeader<Value: Codable>(_ purpose: String, _ body: (_ rank: Int) throws -> Value) throws -> Value {
        guard count > 1 else { return try body(0) }
        let parts = isLeader ? try (0..<count).map { try Self.encode(try body($0)) } : nothing
        return try Self.decode(exchange(purpose, .success(parts))[0])
    }

    /// Divides items of work among the ranks and returns all results, in the order of the items.
    /// - Throws: as above, or an error of `body`.
    func map<Item, Result: Codable>(_ purpose: String, _ items: [Item], _ body: (Item) throws -> Result) throws -> [Result] {
        try exchange(purpose, items[share(of: items.count)].map(body)).flatMap { $0 }
    }

    /// Returns the part of 0 ..< count that is a rank's, by default this one's.
    func share(of count: Int, rank: Int? = nil) -> Range<Int> {
        let rank = rank ?? self.rank
        return count * rank / self.count..<count * (rank + 1) / self.count
    }

    /// Compares what has to be the same on all ranks, by its names.
    /// - Throws: `TeamError` that names the first difference.
    func agree(on facts: [String: String]) throws {
        let all = try exchange("facts", facts)
        for name in Set(all.flatMap(\.keys)).sorted() {
            guard let other = all.indices.first(where: { all[$0][name] != all[0][name] }) else { continue }
            throw TeamError(
                "rank \(other) has \(name) \(all[other][name] ?? "none"), rank 0 \(all[0][name] ?? "none"): start all ranks alike")
        }
    }

    private var nothing: [Data] { Array(repeating: Data(), count: count) }

    private static func encode(_ value: some Encodable) throws -> Data {
        let encoder = PropertyListEncoder()
        encoder.outputFormat = .binary
        return try encoder.encode([value])  // the outermost of a property list is a list
    }

    private static func decode<Value: Decodable>(_ data: Data) throws -> Value {
        try PropertyListDecoder().decode([Value].self, from: data)[0]
    }
}

// MARK: The exchange

extension Team {
    /// What each rank says to each other before data is moved.
    private struct Heading: Codable {
        enum Kind: String, Codable { case data, cancelled, failed }

        /// Bytes of a heading, which is followed by spaces.
        static let length = 4096
        let kind: Kind
        /// What the data is for, or why there is none.
        let text: String
        /// Bytes for the rank that reads this, and for all.
        let size, total: Int

        func encoded() throws -> Data {
            let data = try JSONEncoder().encode(self)
            return data + Data(repeating: UInt8(ascii: " "), count: Self.length - data.count)
        }
    }

    /// Gives each rank its part and returns those that each gave this one. If a rank has none, all throw.
    /// - Throws: `Told` by a rank that has failed or is cancelled; `TeamError` if one has ended.
    private func exchange(_ purpose: String, _ mine: Result<[Data], any Error>) throws -> [Data] {
        if let loss { throw loss }
        do {
            return try tell(purpose, mine)
        } catch let told as Told where !isTogether {
            throw told.error
        }
    }

    private func tell(_ purpose: String, _ mine: Result<[Data], any Error>) throws -> [Data] {
        let parts: [Data]
        let kind: Heading.Kind
        var text = purpose
        switch mine {
        case .success(let data):
            try TensorError.check()
            (kind, parts) = (.data, data)
        case .failure(let error):
            (kind, parts) = (error is Cancelled ? .cancelled : .failed, nothing)
            text = String(decoding: ErrorReport.line(for: error, .key).utf8.prefix(1500), as: UTF8.self)
            askToStop()
        }
        let total = parts.reduce(0) { $0 + $1.count }
        let headings = try move(
            parts.map { try Heading(kind: kind, text: text, size: $0.count, total: total).encoded() },
            sizes: Array(repeating: Heading.length, count: count)
        ).map { try JSONDecoder().decode(Heading.self, from: $0) }
        number.add(1, ordering: .relaxed)

        if case .failure(let error) = mine, kind == .failed { throw Told(error: error) }
        if let failed = headings.firstIndex(where: { $0.kind == .failed }) {
            throw Told(error: TeamError("rank \(failed): \(headings[failed].text)"))
        }
        guard headings.allSatisfy({ $0.kind == .data }) else { throw Told(error: Cancelled()) }
        if let other = headings.firstIndex(where: { $0.text != headings[0].text }) {
            throw Told(
                error: TeamError(
                    "rank \(other) is at '\(headings[other].text)', rank 0 at '\(headings[0].text)': "
                        + "all ranks have to make the same calls in the same order"))
        }
        guard headings.contains(where: { $0.total > 0 }) else { return parts }
        return try move(parts, sizes: headings.map(\.size))
    }

    /// Moves data between all ranks.
    /// - Throws: `TeamError` if one has ended.
    private func move(_ parts: [Data], sizes: [Int]) throws -> [Data] {
        guard let group else { return parts }
        do {
            var lastReport = ContinuousClock.now
            return try group.exchange(parts, sizes: sizes) {
                guard lastReport.duration(to: .now) > .milliseconds(100) else { return }
                lastReport = .now
                // An exchange is never left: the others are asked to come to it.
                if (try? monitor?.reportWaiting()) == nil { askToStop() }
            }
        } catch let error as TensorError {
            let loss = TeamError(describeLoss(error))
            self.loss = loss
            self.group = nil  // the others see the end of the connection, and follow
            throw loss
        }
    }

    private func describeLoss(_ error: TensorError) -> String {
        let remedy = "; continue with 'resume' from the newest checkpoint, with as many processes as you like"
        guard !error.description.contains("Timed out") else {
            return "a rank has not answered for half an hour: see what its machine does\(remedy)"
        }
        // The rank before the one that has ended writes it down. Rank 0 keeps the table, and leaves last.
        var ended: String?
        for _ in 0..<50 where ended == nil {
            do { ended = try table?.text("ended") } catch { ended = "0" }
            usleep(10_000)
        }
        if isLeader { usleep(300_000) }
        return "rank \(ended ?? "of another machine") has ended or cannot be reached: see what it printed\(remedy)"
    }

    // MARK: Stopping

    /// The key by which a rank asks the others to come to the next exchange, because it has no data for it.
    private var stopKey: String { "stop/\(number.load(ordering: .relaxed))" }

    private func askToStop() { try? table?.set(stopKey, to: "") }

    /// Whether another rank asks all to stop, or has ended; looks ten times a second.
    private var isAskedToStop: Bool {
        guard let table, !isBroken else { return false }
        return look.withLock { look in
            let now = number.load(ordering: .relaxed)
            if look.number != now { (look.isAsked, look.number) = (false, now) }
            guard !look.isAsked, look.time.duration(to: .now) > .milliseconds(100) else { return look.isAsked }
            look.time = .now
            // A table that cannot be reached has ended with the process that keeps it.
            do { look.isAsked = try table.text("ended") != nil || table.text(stopKey) != nil } catch { look.isAsked = true }
            return look.isAsked
        }
    }
}

extension TensorError {
    /// libtorch's message without the lines and places in its source.
    var firstLine: String { (description.split(separator: "\n").first.map(String.init) ?? "").oneLine }
}
