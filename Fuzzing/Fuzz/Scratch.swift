import Foundation

/// Files for parsers that read files, in memory.
enum Scratch {
    /// A folder of this process, which is removed at its end.
    private static let root: URL = {
        let url = URL(fileURLWithPath: "/dev/shm/dag-fuzz-\(getpid())")
        try! FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        atexit { try? FileManager.default.removeItem(at: Scratch.root) }
        return url
    }()

    /// Writes a file anew: one that is still mapped keeps its content.
    static func file(_ name: String, _ content: Data) -> URL {
        let url = root.appendingPathComponent(name)
        unlink(url.path)
        try! content.write(to: url)
        return url
    }

    /// Makes a folder that holds these files and no others.
    static func folder(_ files: [String: Data]) -> URL {
        let url = root.appendingPathComponent("folder")
        try? FileManager.default.removeItem(at: url)
        for (name, content) in files {
            let file = url.appendingPathComponent(name)
            try! FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try! content.write(to: file)
        }
        return url
    }
}

extension Data {
    /// The parts of an input that stands for several files, divided by form feeds.
    func sections(_ count: Int) -> [Data] {
        let parts = split(separator: 0x0C, maxSplits: count - 1, omittingEmptySubsequences: false).map { Data($0) }
        return parts + Array(repeating: Data(), count: count - parts.count)
    }

    var text: String { String(decoding: self, as: UTF8.self) }
}
