import Tensors

/// The choices of the setting `device`.
package enum DeviceChoice: String, SettingChoice {
    case auto, cpu, cuda

    /// Returns the device.
    /// - Throws: `ConfigurationError` if CUDA is asked for and absent.
    package func resolve() throws -> Device {
        switch self {
        case .cpu: return .cpu
        case .auto: return Device.cudaIsAvailable ? .cuda : .cpu
        case .cuda:
            guard Device.cudaIsAvailable else {
                throw ConfigurationError(
                    """
                    \(setting: "device") cuda: no CUDA device answers; set LIBTORCH to a CUDA build of libtorch, \
                    or use \(setting: "device") cpu
                    """)
            }
            return .cuda
        }
    }
}
