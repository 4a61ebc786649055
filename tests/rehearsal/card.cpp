// A graphics card made of the computer's own memory, for a PyTorch that is built for the processor alone.
//
// Tensors on it say that they are on `cuda:N`; their memory is the host's, and every operation on them is done by the
// processor's kernel. What PyTorch would refuse on a real card is refused here: tensors on two devices, more memory
// than the card has, anything at all once the card is lost. card.py gives it the Python half of torch.cuda.

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/native/DispatchStub.h>
#include <ATen/native/transformers/attention.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <mutex>
#include <set>

using namespace at;

namespace {

constexpr int64_t kBlock = 512;  // torch's allocator hands out multiples of it

// ---- The cards, and what they hold. Never destroyed: tensors may be freed after the statics of this file.

struct Card {
  int64_t total = 0, allocated = 0, peak = 0;
  Generator random;
  std::string broken;  // CUDA's words for why nothing works on it any more
};
std::vector<Card>& cards = *new std::vector<Card>;
std::mutex& cards_mutex = *new std::mutex;
bool spike = false;  // others take all memory, for as long as one allocation takes
thread_local DeviceIndex current = 0;

DeviceIndex or_current(DeviceIndex index) { return index < 0 ? current : index; }

void require_working(DeviceIndex index) {
  const std::string& broken = cards.at(or_current(index)).broken;
  TORCH_CHECK(broken.empty(), "CUDA error: ", broken,
              "\nCUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.");
}

void take(DeviceIndex index, int64_t bytes) {
  std::lock_guard<std::mutex> lock(cards_mutex);
  Card& card = cards.at(index);
  if (card.allocated + bytes > card.total || std::exchange(spike, false)) {
    C10_THROW_ERROR(OutOfMemoryError, c10::str("CUDA out of memory. Tried to allocate ", bytes >> 10, " KiB. GPU ", int(index),
                    " has a total capacity of ", card.total >> 20, " MiB of which ", (card.total - card.allocated) >> 20, " MiB is free."));
  }
  card.allocated += bytes;
  card.peak = std::max(card.peak, card.allocated);
}

// ---- Memory: a block of the host's that is counted as the card's while it lives

struct Block {
  Block(int64_t size, DeviceIndex index) : bytes(size), card(index) { take(card, bytes); }
  ~Block() {
    std::lock_guard<std::mutex> lock(cards_mutex);
    cards[card].allocated -= bytes;
  }
  DataPtr host;
  int64_t bytes;
  DeviceIndex card;
};

// Count the bytes first: where the card has no room for them, the host is not asked.
template <typename Make>
DataPtr on_card(size_t bytes, DeviceIndex index, Make make) {
  auto block = std::make_unique<Block>((int64_t(bytes) + kBlock - 1) / kBlock * kBlock, index);
  block->host = make();
  void* data = block->host.get();
  return {data, block.release(), [](void* context) { delete static_cast<Block*>(context); }, Device(kCUDA, index)};
}

struct CardAllocator final : Allocator {
  DataPtr allocate(size_t bytes) override {
    return on_card(bytes, current, [bytes] { return c10::GetCPUAllocator()->allocate(bytes); });
  }
  void copy_data(void* to, const void* from, size_t bytes) const override { memcpy(to, from, bytes); }
} allocator;

// Return a tensor on `device` that shares the memory of one that is elsewhere; on a card it is counted.
Tensor twin(const Tensor& tensor, Device device) {
  const Storage& storage = tensor.storage();
  auto share = [&storage] {
    return DataPtr(storage.mutable_data(), new Storage(storage), [](void* context) { delete static_cast<Storage*>(context); }, Device(kCPU));
  };
  DataPtr memory = device.is_cuda() ? on_card(storage.nbytes(), device.index(), share) : share();
  Storage shared(Storage::use_byte_size_t(), storage.nbytes(), std::move(memory));
  auto key = device.is_cuda() ? DispatchKey::CUDA : DispatchKey::CPU;
  Tensor out = at::detail::make_tensor<TensorImpl>(std::move(shared), DispatchKeySet(key), tensor.dtype());
  out.unsafeGetTensorImpl()->set_storage_offset(tensor.storage_offset());
  out.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides());
  return out;
}

Tensor on_host(const Tensor& tensor) {
  if (!tensor.defined() || !tensor.is_cuda()) return tensor;
  if (tensor.numel() == 0)  // nothing to share, and a kernel may make it larger
    return at::detail::empty_strided_cpu(tensor.sizes(), tensor.strides(), TensorOptions().dtype(tensor.dtype()));
  return twin(tensor, kCPU);
}

void become(const Tensor& tensor, const Tensor& other) {
  auto* impl = tensor.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(other.storage());
  impl->set_storage_offset(other.storage_offset());
  impl->set_sizes_and_strides(other.sizes(), other.strides());
}

// ---- Every operation: its tensors are seen on the host, the processor's kernel runs, its results go back

// What a card does with a tensor of the host's: `tensor[indices]` on it takes indices from there.
const std::set<std::string> takes_host_tensors = {"aten::index.Tensor", "aten::index_put_", "aten::_index_put_impl_"};

// While it lives, the processor's kernels draw from the card's own random numbers.
struct CardRandom {
  explicit CardRandom(Generator& generator) : card(generator), host(at::detail::getDefaultCPUGenerator()), kept(host.get_state()) {
    host.set_state(card.get_state());
  }
  ~CardRandom() {
    card.set_state(host.get_state());
    host.set_state(kept);
  }
  Generator& card;
  Generator host;
  Tensor kept;
};

struct Arguments {
  std::string operation;
  DeviceIndex card = -1;
  std::string of_host;  // the name of one that is there and has dimensions
  std::vector<std::pair<Tensor, Tensor>> twins;  // (on the card, on the host)

  Tensor to_host(const Tensor& tensor, const std::string& name) {
    if (!tensor.defined()) return tensor;
    if (!tensor.is_cuda()) {
      if (tensor.dim() > 0 && !tensor.is_meta()) of_host = name;
      return tensor;
    }
    if (card >= 0 && card != tensor.get_device()) refuse("cuda:" + std::to_string(tensor.get_device()), name);
    card = tensor.get_device();
    for (auto& pair : twins)
      if (pair.first.is_same(tensor)) return pair.second;
    twins.emplace_back(tensor, on_host(tensor));
    return twins.back().second;
  }
  Tensor to_card(const Tensor& tensor) {
    if (!tensor.defined() || tensor.is_cuda()) return tensor;
    for (auto& pair : twins)
      if (pair.second.is_same(tensor)) return pair.first;
    return twin(tensor, Device(kCUDA, card));
  }
  void refuse(const std::string& other, const std::string& name) const {
    TORCH_CHECK(false, "Expected all tensors to be on the same device, but found at least two devices, cuda:", int(card), " and ",
                other, "! (when checking argument ", name, " of ", operation, ")");
  }
};

void seen_on_host(IValue& value, const std::string& name, Arguments& arguments) {
  if (value.isTensor()) {
    value = arguments.to_host(value.toTensor(), name);
  } else if (value.isTensorList()) {
    c10::List<Tensor> list;
    for (const Tensor& tensor : value.toTensorList()) list.push_back(arguments.to_host(tensor, name));
    value = list;
  } else if (value.isOptionalTensorList()) {
    c10::List<std::optional<Tensor>> list;
    for (const auto& element : value.toListRef())
      list.push_back(element.isTensor() ? std::optional(arguments.to_host(element.toTensor(), name)) : std::nullopt);
    value = list;
  } else if (value.isDevice() && value.toDevice().is_cuda()) {
    if (arguments.card < 0) arguments.card = or_current(value.toDevice().index());
    value = Device(kCPU);
  }
}

void back_on_card(IValue& value, Arguments& arguments) {
  if (value.isTensor()) {
    value = arguments.to_card(value.toTensor());
  } else if (value.isTensorList()) {
    c10::List<Tensor> list;
    for (const Tensor& tensor : value.toTensorList()) list.push_back(arguments.to_card(tensor));
    value = list;
  }
}

// A softmax of fp16 that is kept in fp32 exists on cards alone, there and back: the processor is given fp32.
// Returns where what comes of it, in fp32 again, belongs in fp16; the backward pass writes into what it is given.
Tensor in_fp32(const std::string& name, IValue* arguments) {
  if (name == "aten::_softmax" || name == "aten::_log_softmax") {
    if (arguments[2].toBool()) arguments[0] = arguments[0].toTensor().to(kFloat);
    arguments[2] = false;
  } else if (name == "aten::_softmax_backward_data" || name == "aten::_log_softmax_backward_data") {
    if (arguments[3].toScalarType() != kHalf || arguments[0].toTensor().scalar_type() != kFloat) return {};
    Tensor narrow = arguments[4].toTensor();
    arguments[3] = kFloat;
    arguments[4] = narrow.to(kFloat);
    return narrow;
  }
  return {};
}

void by_the_processor(const OperatorHandle& operation, DispatchKeySet, torch::jit::Stack* stack) {
  const auto& schema = operation.schema();
  Arguments arguments{.operation = schema.name()};
  const size_t first = stack->size() - schema.arguments().size();
  for (size_t i = 0; i < schema.arguments().size(); ++i) seen_on_host((*stack)[first + i], schema.arguments()[i].name(), arguments);
  if (arguments.card >= 0 && !arguments.of_host.empty() && !takes_host_tensors.count(schema.name())) arguments.refuse("cpu", arguments.of_host);
  arguments.card = or_current(arguments.card);
  require_working(arguments.card);
  {
    std::optional<CardRandom> random;
    if (operation.hasTag(Tag::nondeterministic_seeded)) random.emplace(cards[arguments.card].random);
    AutoDispatchBelowADInplaceOrView below;
    const Tensor narrow = in_fp32(schema.name(), stack->data() + first);
    operation.redispatchBoxed(DispatchKeySet(DispatchKey::CPU), stack);
    if (narrow.defined()) stack->back() = narrow.copy_(stack->back().toTensor());
  }
  for (auto& [card, host] : arguments.twins)  // `out=` and in-place operations may change a tensor's size
    if (!card.sizes().equals(host.sizes())) become(card, twin(host, card.device()));
  for (size_t i = stack->size() - schema.returns().size(); i < stack->size(); ++i) back_on_card((*stack)[i], arguments);
}

// ---- Operations that the processor's kernels cannot stand for: those that make memory, cross devices or look at storage

struct Chosen {  // while it lives, a card is the current one
  explicit Chosen(DeviceIndex index) : before(current) { current = or_current(index); }
  ~Chosen() { current = before; }
  DeviceIndex before;
};

constexpr DispatchKeySet kCardKeys(DispatchKey::CUDA);

ScalarType or_default(std::optional<ScalarType> dtype) { return dtype.value_or(typeMetaToScalarType(c10::get_default_dtype())); }

Tensor card_empty_strided(IntArrayRef size, IntArrayRef stride, std::optional<ScalarType> dtype, std::optional<Layout>, std::optional<Device> device,
                     std::optional<bool>) {
  Chosen chosen(device ? device->index() : -1);
  require_working(current);
  return at::detail::empty_strided_generic(size, stride, &allocator, kCardKeys, or_default(dtype));
}

Tensor card_empty(IntArrayRef size, std::optional<ScalarType> dtype, std::optional<Layout>, std::optional<Device> device, std::optional<bool>,
             std::optional<MemoryFormat> format) {
  Chosen chosen(device ? device->index() : -1);
  require_working(current);
  return at::detail::empty_generic(size, &allocator, kCardKeys, or_default(dtype), format);
}

Tensor& card_copy(Tensor& to, const Tensor& from, bool) {
  require_working(to.is_cuda() ? to.get_device() : from.get_device());
  Tensor host = on_host(to);
  AutoDispatchBelowADInplaceOrView below;
  host.copy_(on_host(from));
  return to;
}

Scalar card_item(const Tensor& tensor) {
  require_working(tensor.get_device());
  Tensor host = on_host(tensor);
  AutoDispatchBelowADInplaceOrView below;
  return at::_local_scalar_dense(host);
}

const Tensor& card_resize(const Tensor& tensor, IntArrayRef size, std::optional<MemoryFormat>) {
  if (tensor.sizes().equals(size)) return tensor;
  Tensor larger = at::empty(size, tensor.options());
  if (auto count = std::min(tensor.numel(), larger.numel()))
    memcpy(larger.mutable_data_ptr(), tensor.const_data_ptr(), count * tensor.element_size());
  become(tensor, larger);
  return tensor;
}

Tensor& set_storage(Tensor& tensor, Storage source, int64_t offset, IntArrayRef size, IntArrayRef stride) {
  TORCH_CHECK(source.device().is_cuda(), "Attempted to set the storage of a tensor on device \"cuda\" to a storage on different device \"cpu\".");
  auto* impl = tensor.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(source));
  impl->set_storage_offset(offset);
  if (stride.empty()) impl->set_sizes_contiguous(size);
  else impl->set_sizes_and_strides(size, stride);
  return tensor;
}

Tensor& set_whole_storage(Tensor& tensor, Storage source) {
  const int64_t count = int64_t(source.nbytes()) / tensor.element_size();
  return set_storage(tensor, std::move(source), 0, {count}, {});
}

Tensor& set_tensor(Tensor& tensor, const Tensor& source) {
  return set_storage(tensor, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}

// Products of 16-bit matrices kept in fp32 exist on cards alone; the conditions are those of aten/native/cuda/Blas.cpp.
void require_wider(const Tensor& left, const Tensor& right, ScalarType out) {
  TORCH_CHECK(left.scalar_type() == right.scalar_type(), "expected mat1 and mat2 to have the same dtype, but got: ", left.scalar_type(), " != ",
              right.scalar_type());
  const bool narrow = left.scalar_type() == kHalf || left.scalar_type() == kBFloat16;
  TORCH_CHECK(out == left.scalar_type() || (out == kFloat && narrow), "out_dtype must be the same as input dtype or fp32 for fp16/bf16 inputs");
}

Tensor card_mm(const Tensor& left, const Tensor& right, ScalarType out) {
  require_wider(left, right, out);
  return at::mm(left.to(out), right.to(out));
}

Tensor card_bmm(const Tensor& left, const Tensor& right, ScalarType out) {
  require_wider(left, right, out);
  return at::bmm(left.to(out), right.to(out));
}

Tensor card_addmm(const Tensor& bias, const Tensor& left, const Tensor& right, ScalarType out, const Scalar& beta, const Scalar& alpha) {
  require_wider(left, right, out);
  return at::addmm(bias.to(out), left.to(out), right.to(out), beta, alpha);
}

Tensor& card_addmm_out(const Tensor& bias, const Tensor& left, const Tensor& right, ScalarType dtype, const Scalar& beta, const Scalar& alpha,
                       Tensor& out) {
  return out.copy_(card_addmm(bias, left, right, dtype, beta, alpha));
}

// Flash and memory-efficient attention have no kernel here: attention is written out.
int64_t plain_attention(const Tensor&, const Tensor&, const Tensor&, const std::optional<Tensor>&, double, bool, std::optional<double>, bool) {
  return 0;  // SDPBackend.MATH
}

// ---- What PyTorch asks of a device

struct CardGuard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return kCUDA; }
  Device exchangeDevice(Device device) const override {
    Device before = getDevice();
    setDevice(device);
    return before;
  }
  Device getDevice() const override { return Device(kCUDA, current); }
  void setDevice(Device device) const override {
    TORCH_CHECK(device.index() < deviceCount(), "CUDA error: invalid device ordinal");
    uncheckedSetDevice(device);
  }
  void uncheckedSetDevice(Device device) const noexcept override { current = or_current(device.index()); }
  Stream getStream(Device device) const override { return Stream(Stream::DEFAULT, Device(kCUDA, or_current(device.index()))); }
  Stream getDefaultStream(Device device) const override { return getStream(device); }
  Stream getStreamFromGlobalPool(Device device, bool) const override { return getStream(device); }
  Stream getNewStream(Device device, int) const override { return getStream(device); }
  Stream exchangeStream(Stream stream) const override { return getStream(stream.device()); }
  void record(void**, const Stream&, const DeviceIndex, const EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream& stream) const override { require_working(stream.device_index()); }
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const DeviceIndex index) const override { require_working(index); }
  void destroyEvent(void*, const DeviceIndex) const noexcept override {}
  void recordDataPtrOnStream(const DataPtr&, const Stream&) const override {}
  DeviceIndex deviceCount() const noexcept override { return DeviceIndex(cards.size()); }
};

struct CardHooks final : CUDAHooksInterface {
  explicit CardHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool hasCUDART() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return !cards.empty(); }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex current_device() const override { return current; }
  DeviceIndex deviceCount() const override { return DeviceIndex(cards.size()); }
  int getNumGPUs() const override { return int(cards.size()); }
  void setCurrentDevice(DeviceIndex index) const override { current = index; }
  DeviceIndex getCurrentDevice() const override { return current; }
  DeviceIndex exchangeDevice(DeviceIndex index) const override { return std::exchange(current, index); }
  DeviceIndex maybeExchangeDevice(DeviceIndex index) const override { return std::exchange(current, or_current(index)); }
  Device getDeviceFromPtr(void*) const override { return Device(kCUDA, current); }
  bool isPinnedPtr(const void*) const override { return false; }
  Allocator* getPinnedMemoryAllocator() const override { return c10::GetCPUAllocator(); }
  Allocator* getCUDADeviceAllocator() const override { return &allocator; }
  const Generator& getDefaultGenerator(DeviceIndex index) const override { return cards.at(or_current(index)).random; }
  Generator getNewGenerator(DeviceIndex) const override { return at::detail::getDefaultCPUGenerator().clone(); }
  void deviceSynchronize(DeviceIndex index) const override { require_working(index); }
};

const CardGuard guard;
const bool registered = [] {
  c10::SetAllocator(kCUDA, &allocator);
  c10::impl::registerDeviceGuard(kCUDA, &guard);
  at::native::_fused_sdp_choice_stub.set_cuda_dispatch_ptr(&plain_attention);
  return true;
}();

// ---- What card.py asks

void add_card(int64_t total, Generator random, std::string broken) { cards.push_back({.total = total, .random = random, .broken = broken}); }
void break_cards(std::string words) { for (Card& card : cards) card.broken = words; }
void fill_cards() { for (Card& card : cards) card.total = card.allocated; }
void refuse_next() { spike = true; }
std::vector<int64_t> memory(int64_t index) { return {cards.at(index).total, cards[index].allocated, cards[index].peak}; }
void forget_peak(int64_t index) { cards.at(index).peak = cards[index].allocated; }
int64_t current_card() { return current; }
int64_t choose_card(int64_t index) { return std::exchange(current, or_current(DeviceIndex(index))); }
void synchronize() { require_working(current); }

}  // namespace

namespace at {
C10_REGISTER_CLASS(CUDAHooksRegistry, CUDAHooks, CardHooks)
}

TORCH_LIBRARY(rehearsal, m) {
  m.def("add_card", add_card);
  m.def("break_cards", break_cards);
  m.def("fill_cards", fill_cards);
  m.def("refuse_next", refuse_next);
  m.def("memory", memory);
  m.def("forget_peak", forget_peak);
  m.def("current_card", current_card);
  m.def("choose_card", choose_card);
  m.def("synchronize", synchronize);
}

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&by_the_processor>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", card_empty);
  m.impl("empty_strided", card_empty_strided);
  m.impl("copy_", card_copy);
  m.impl("_local_scalar_dense", card_item);
  m.impl("resize_", card_resize);
  m.impl("set_.source_Storage", set_whole_storage);
  m.impl("set_.source_Storage_storage_offset", set_storage);
  m.impl("set_.source_Tensor", set_tensor);
  m.impl("as_strided", native::as_strided_tensorimpl);
  m.impl("view", native::view);
  m.impl("_reshape_alias", native::_reshape_alias);
  m.impl("unfold", native::unfold);
  m.impl("mm.dtype", card_mm);
  m.impl("bmm.dtype", card_bmm);
  m.impl("addmm.dtype", card_addmm);
  m.impl("addmm.dtype_out", card_addmm_out);
}
