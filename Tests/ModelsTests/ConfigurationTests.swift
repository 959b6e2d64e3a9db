import Foundation
import TestSupport
import Testing

@testable import Models

/// A copy of a golden's folder with one key of its config.json changed.
/// - Parameter value: as JSON; nil removes the key.
private func copy(_ golden: String, _ key: String, _ value: String?, in folder: URL) throws -> ModelFolder {
    let place = folder.appendingPathComponent(UUID().uuidString)
    try FileManager.default.copyItem(at: goldens.appendingPathComponent(golden), to: place)
    let file = place.appendingPathComponent("config.json")
    var config = try #require(JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
    config[key] = try value.map { try JSONSerialization.jsonObject(with: Data($0.utf8), options: .fragmentsAllowed) }
    try JSONSerialization.data(withJSONObject: config).write(to: file)
    return try ModelFolder(place)
}

/// Values of config.json against diffusers' and transformers' own defaults.
@Suite struct ConfigurationTests {
    @Test(
        arguments: [
            ("unet-sd1", "only_cross_attention", "[false, true, false]"), ("unet-sd1", "time_embedding_act_fn", "\"silu\""),
            ("unet-sd1", "timestep_post_act", "\"silu\""), ("unet-sd1", "num_attention_heads", "2"),
            ("unet-sd1", "time_embedding_dim", "512"),
            ("unet-sd1", "class_embeddings_concat", "true"), ("unet-sd1", "encoder_hid_dim", "128"),
            ("unet-sd1", "reverse_transformer_layers_per_block", "[1, 1, 1]"), ("unet-sd1", "mid_block_scale_factor", "2"),
            ("unet-sd1", "attention_head_dim", "null"), ("unet-sd1", "norm_eps", "null"), ("unet-sd1", "in_channels", "\"four\""),
            ("unet-sd1", "_class_name", "\"UNetMotionModel\""), ("unet-sd1", "_class_name", nil),
            ("ddpm", "attn_norm_num_groups", "4"), ("ddpm", "time_embedding_dim", "512"), ("ddpm", "downsample_type", "\"resnet\""),
        ] as [(String, String, String?)])
    func refusedUNets(golden: String, key: String, value: String?) throws {
        try withFolder { folder in
            let error = #expect(throws: ModelError.self) { try UNet(folder: copy(golden, key, value, in: folder)) }
            #expect(error?.description.contains(value == "\"UNetMotionModel\"" ? "UNetMotionModel" : key) == true, "\(error!)")
        }
    }

    /// Absent keys have diffusers' default, and values that say the default in another way are taken.
    @Test(
        arguments: [
            ("ddpm-heads", "attention_head_dim", nil), ("unet-sd1", "layers_per_block", nil), ("unet-sd1", "norm_eps", nil),
            ("unet-sd1", "only_cross_attention", "[false, false, false]"), ("unet-sd1", "_new_key", "1"), ("ddpm", "add_attention", nil),
            ("ddpm", "attn_norm_num_groups", "8"), ("unet-sd1", "center_input_sample", "null"),
        ] as [(String, String, String?)])
    func unchangedUNets(golden: String, key: String, value: String?) throws {
        try withFolder { folder in
            let unet = try UNet(folder: copy(golden, key, value, in: folder))
            let golden = try tensors("\(golden)/golden.safetensors")
            let output = unet(golden["sample"]!, timesteps: golden["timestep"]!, context: golden["encoder_hidden_states"])
            #expect(try difference(output, golden["output"]!) < 1e-4)
        }
    }

    @Test(arguments: [
        ("clip-sd1", "vocab_size", "null"), ("clip-sd1", "hidden_size", "\"wide\""), ("clip-sd1", "text_config", "{}"),
        ("vae-sd", "scaling_factor", "null"), ("vae-sd", "scaling_factor", "0"), ("vae-sd", "scaling_factor", "-0.5"),
        ("vae-sd", "act_fn", "\"relu\""), ("vae-tiny", "act_fn", "\"silu\""), ("vae-tiny", "upsample_fn", "\"bilinear\""),
        ("vae-tiny", "scaling_factor", "0"), ("vae-tiny", "shift_factor", "0.1"), ("vae-tiny", "out_channels", "4"),
        ("vae-tiny", "upsampling_scaling_factor", "9"), ("vae-tiny", "decoder_block_out_channels", "[8, 8, 8, 16]"),
        ("vae-tiny", "num_decoder_blocks", "[3, 3, 3, 1, 1]"), ("vae-tiny", "latent_channels", "null"),
    ])
    func refusedParts(golden: String, key: String, value: String) throws {
        try withFolder { folder in
            let model = try copy(golden, key, value, in: folder)
            let error = #expect(throws: ModelError.self) {
                switch golden {
                case "clip-sd1": _ = try CLIPTextModel(folder: model)
                case "vae-sd": _ = try AutoencoderKL(folder: model)
                default: _ = try AutoencoderTiny(folder: model)
                }
            }
            #expect(error?.description.contains(key) == true, "\(error!)")
        }
    }
}
