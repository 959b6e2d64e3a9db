import CTorch
import Foundation

/// A table of texts that the processes of a run share: the place where they meet.
package final class SharedTable: @unchecked Sendable {
    fileprivate let handle: ct_store

    /// Opens the table at an address.
    /// - Parameters:
    ///   - port: 0 for a host: a free one is chosen.
    ///   - hosts: whether this process keeps the table for the others.
    ///   - name: tables of other names at the same address are others.
    ///   - patience: seconds until the others have to be there, in this and in `ProcessGroup`.
    /// - Throws: `TensorError`.
    package init(host: String, port: Int, hosts: Bool, name: String, patience: Double) throws {
        guard let handle = ct_store_open(host, Int32(port), hosts, name, patience) else { throw TensorError.latest }
        self.handle = handle
    }

    deinit { ct_store_close(handle) }

    /// The port of the address.
    package var port: Int { Int(ct_store_port(handle)) }

    /// Sets a text, unless it is set already.
    /// - Throws: `TensorError` if the host cannot be reached.
    package func set(_ key: String, to text: String) throws { if !ct_store_set(handle, key, text) { throw TensorError.latest } }

    /// Returns a text; nil if it is not set.
    /// - Throws: `TensorError` if the host cannot be reached.
    package func text(_ key: String) throws -> String? {
        guard let text = ct_store_get(handle, key) else {
            try TensorError.check()
            return nil
        }
        defer { free(text) }
        return String(cString: text)
    }
}

/// Connections between the processes of a run, of which each has a rank. When one ends, another writes its
/// rank to the table as `ended`, unless that is set.
package final class ProcessGroup: @unchecked Sendable {
    private let handle: ct_group
    private let count: Int

    /// Connects with all others.
    /// - Parameter timeout: seconds that an exchange may take.
    /// - Throws: `TensorError` if one of them is not there in the table's time.
    package init(meetingAt table: SharedTable, rank: Int, count: Int, timeout: Double) throws {
        guard let handle = ct_group_join(table.handle, Int32(rank), Int32(count), timeout) else { throw TensorError.latest }
        self.handle = handle
        self.count = count
    }

    deinit { ct_group_leave(handle) }

    /// Gives each rank its part and returns those that each gave this one, in the order of ranks.
    /// - Parameters:
    ///   - sizes: bytes that each will give.
    ///   - onWait: called every few milliseconds of waiting.
    /// - Throws: `TensorError` if a process has ended, or after the timeout; the group is then of no more
    ///   use.
    package func exchange(_ parts: [Data], sizes: [Int], onWait: () -> Void) throws -> [Data] {
        let given = parts.map { Int64($0.count) }
        let mine = parts.reduce(into: Data()) { $0.append($1) }
        var theirs = Data(count: sizes.reduce(0, +))
        let isDone = withoutActuallyEscaping(onWait) { onWait in
            withUnsafePointer(to: onWait) { context in
                mine.withUnsafeBytes { input in
                    theirs.withUnsafeMutableBytes { output in
                        ct_group_exchange(
                            handle, input.baseAddress, given, output.baseAddress, sizes.map(Int64.init),
                            { $0.assumingMemoryBound(to: (() -> Void).self).pointee() }, UnsafeMutableRawPointer(mutating: context))
                    }
                }
            }
        }
        guard isDone else { throw TensorError.latest }
        var start = 0
        return sizes.map { size in
            defer { start += size }
            return theirs[start..<start + size]
        }
    }
}

extension TensorError {
    /// The error of a call that has just failed.
    fileprivate static var latest: TensorError { take() ?? TensorError(description: "the reason is not known") }
}
