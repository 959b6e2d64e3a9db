import Foundation

/// Memory between two forbidden pages: a read or write beyond it is a SIGSEGV at once.
final class GuardedMemory {
    enum Edge: CaseIterable { case start, end }

    let bytes: UnsafeMutableRawBufferPointer
    private let region: UnsafeMutableRawPointer
    private let length: Int

    /// - Parameters:
    ///   - count: bytes, filled with zeros.
    ///   - edge: which end touches forbidden memory.
    init(_ count: Int, edge: Edge = .end) {
        let page = Int(getpagesize())
        let inner = max(1, (count + page - 1) / page) * page
        length = inner + 2 * page
        region = mmap(nil, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
        mprotect(region, page, PROT_NONE)
        mprotect(region + page + inner, page, PROT_NONE)
        bytes = UnsafeMutableRawBufferPointer(start: edge == .start ? region + page : region + page + inner - count, count: count)
    }

    deinit { munmap(region, length) }

    /// Copies values.
    convenience init<Value>(_ values: [Value], edge: Edge = .end) {
        self.init(values.count * MemoryLayout<Value>.stride, edge: edge)
        values.withUnsafeBytes { bytes.copyMemory(from: $0) }
    }

    /// Makes the memory read-only.
    func protect() {
        let page = Int(getpagesize())
        mprotect(region + page, length - 2 * page, PROT_READ)
    }

    func pointer<Value>(_: Value.Type = Value.self) -> UnsafeMutablePointer<Value> {
        bytes.baseAddress!.assumingMemoryBound(to: Value.self)
    }
}
