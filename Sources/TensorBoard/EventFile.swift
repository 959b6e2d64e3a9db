import Foundation
import SwiftProtobuf

/// A file of events that TensorBoard shows, and that Weights & Biases and others read: scalars, images and texts.
///
/// Its records are framed as TFRecord: the length (8 bytes, little-endian), its masked CRC-32C, the message, and the
/// message's masked CRC-32C.
package final class EventFile {
    /// The file, which the first `write` makes.
    package let url: URL
    /// Records that are still to be written.
    private var pending = Data()

    /// Names a new file in a folder.
    /// - Parameter step: readers drop what earlier files of the folder have from this step on.
    package init(in folder: URL, outdating step: Int) {
        let host = ProcessInfo.processInfo.hostName
        url = folder.appendingPathComponent("events.out.tfevents.\(Int(Date().timeIntervalSince1970)).\(host).\(getpid()).0")
        add { $0.fileVersion = "brain.Event:2" }
        add { event in
            event.step = Int64(step)
            event.sessionLog = .with { $0.status = .start }
        }
    }

    /// Adds a number under each tag.
    package func add(_ scalars: [String: Double], step: Int) {
        add(scalars.sorted { $0.key < $1.key }.map { tag, number in .with { ($0.tag, $0.simpleValue) = (tag, Float(number)) } }, step: step)
    }

    /// Adds an image.
    /// - Parameter file: the bytes of a PNG or JPEG file of this height and width.
    package func add(image file: Data, height: Int, width: Int, tag: String, step: Int) {
        let image = Tensorboard_Summary.Image.with {
            ($0.height, $0.width, $0.colorspace, $0.encodedImageString) = (Int32(height), Int32(width), 3, file)
        }
        add([.with { ($0.tag, $0.image) = (tag, image) }], step: step)
    }

    /// Adds a text in Markdown.
    package func add(text: String, tag: String, step: Int) {
        let value = Tensorboard_Summary.Value.with { value in
            value.tag = tag
            value.metadata.pluginData.pluginName = "text"
            value.tensor = .with { ($0.dtype, $0.tensorShape, $0.stringVal) = (.dtString, .init(), [Data(text.utf8)]) }
        }
        add([value], step: step)
    }

    private func add(_ values: [Tensorboard_Summary.Value], step: Int) {
        add { event in
            event.step = Int64(step)
            event.summary = .with { $0.value = values }
        }
    }

    private func add(_ fill: (inout Tensorboard_Event) -> Void) {
        var event = Tensorboard_Event.with { $0.wallTime = Date().timeIntervalSince1970 }
        fill(&event)
        // Only a message of 2 GB and more, or one with missing fields, which proto3 does not know, cannot be serialised.
        guard let message: Data = try? event.serializedBytes() else { return }
        let length = Self.bytes(UInt64(message.count))
        pending += length + Self.bytes(CRC32C.masked(length)) + message + Self.bytes(CRC32C.masked(message))
    }

    /// Appends what has been added to the file.
    /// - Throws: an error of the file system; what could not be written is written by the next call.
    package func write() throws {
        if !FileManager.default.fileExists(atPath: url.path) { try Data().write(to: url) }
        let handle = try FileHandle(forWritingTo: url)
        defer { try? handle.close() }
        let end = try handle.seekToEnd()
        do { try handle.write(contentsOf: pending) } catch {
            // Readers stop at a part of a record.
            try? handle.truncate(atOffset: end)
            throw error
        }
        pending = Data()
    }

    private static func bytes(_ number: some FixedWidthInteger) -> Data { withUnsafeBytes(of: number.littleEndian) { Data($0) } }
}
