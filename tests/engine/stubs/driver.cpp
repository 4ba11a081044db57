// Stands for libcuda.so.1 on machines without a driver: loads, and has nothing.
extern "C" int tomoserve_stub_driver() { return 0; }
